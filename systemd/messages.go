package systemd

// Message is a line of the log that a NOC may wait for: slog messages that are
// Text have the MESSAGE_ID ID in the journal. IDs never change.
type Message struct {
	ID   string // 128 bits, 32 hexadecimal digits
	Text string
}

// Messages are all of them; each has an entry in catalog/shunt.catalog.
var Messages = []Message{
	{"9fb93534081c4253b1e273a87984a8ab", "serving"},
	{"db149e4714be49abb93fe42eabd2d9f2", "stopping: no new binds, answering what was accepted"},
	{"6c2f0b7d9e184a53b0d7f1c48a5e3926", "api.listen is empty, the app API is off: what connects to its socket is hung up on"},
	{"3994693ea3ae4e689323451b4a95902a", "attempts are still under way; they stay spooled"},
	{"1aa615a94b6a4551a061ae14a1dbf721", "configuration reloaded"},
	{"8b3a15353f134b709856c32a687b253b", "configuration refused, the one in use stays"},
	{"a7213dfe89324293a0dd5386c9cf0800", "configuration fault"},
	{"67d1191fda8040bd919e9bc7f4a02d92", "configuration warning"},
	{"fd95588c5e4e410bb14cf51964cd1715", "divert switched by an operator"},
	{"b81f6e2d94c74a0fa35c0d7be1926f48", "selftest asked for by an operator"},
	{"6d0c1c0a5b1f4f39a2e7f1c7f5c0b9e4", "drain switched by an operator"},
	{"d561cab77e4d473db44d04cb5f0f2c02", "diversion is suspended"},
	{"3c85b930b9f0420f929e04e213311e91", "diversion is back"},
	{"1b0b5a92ca9f4dae85e1fb5bb643edf4", "disk almost full, messages go as plain SMS; free space under node.data_dir"},
	{"fece6b989a324eaeb86c67b35a0ac810", "disk has room again, diverting"},
	{"5da24106869b4c3d819274d465ee28de", "disk is full, nothing is diverted and the control socket is not served; free space under node.data_dir"},
	{"4bcee26a6a9d449c8954549c429fdbf7", "disk has room again, starting to divert"},
	{"56c8a7f9757f4125ad53b107073391a5", "free space cannot be read"},
	{"3623ac6122ae4903a20425dd2e67dbe9", "spool refuses, messages go as plain SMS; check the disk under node.data_dir"},
	{"cae33afe57804cdb9f642b78f0088cfc", "spool takes messages again"},
	{"76e2507bc7b14aa893655fc9e35d6c11", "spool cannot write"},
	{"671b5a965693463285c30e119edb8d92", "spool writes again"},
	{"92d254d7fe0340e4808f532c9af26054", "spool's disk does not answer, new messages are refused until it does"},
	{"17d104f66e3342b0b3e45fcec83c2a8d", "spool's disk answers again"},
	{"86b22542b5814f0aaffc4798d551e17d", "spool record cannot be read, set aside"},
	{"b5d1c7e09a3f4e6f8d2746a1c05be93d", "alarm raised"},
	{"e27f40b86c9d4d1ba5f3183d7c6e0a52", "alarm cleared"},
	{"4d0a86f1c27b4e9b9c3d52e8f6071ab4", "operator action"},
	{"96c3e5d80f1a4b72a4be0d73592f8ce1", "audit cannot be written; operators' actions are refused but for divert off and drain"},
	{"0be1f9475a6c4d83b72e6098d4c15fa7", "audit is written again"},
	{"7fa2d06c93e84158a0b4c71de9256b38", "audit cannot be written, and this was done all the same"},
	{"c8456b1e7d9f40a2836e5fd0217b9ac3", "audit: a torn line was set aside"},
	{"31d97e0a5c8b4f26bd14a8027f6ce95b", "control socket: refused, not an operator"},
	{"98177d4622d24a85be8804180025cd7f", "own bind is up"},
	{"884f31660a434e8899ef1e6ea55cafd9", "own bind is down"},
	{"8e71e249e05046ee8adb2a053379959f", "bound"},
	{"c48f6f41a4504d59ab87a4dc157a8060", "unbound"},
	{"b9f3dd48974b4a32b2f3d31d476345e5", "no bind"},
	{"79923b201db04de5bfdc3b1dd2742ee7", "bind refused by the SMSC"},
	{"528efc2d91d140e4adaf31aca920a5ea", "bind refused: the account does not allow this source"},
	{"f3e9b455903c4f11b998756565e1a396", "bind refused: the account has all the binds that it may have"},
	{"440ead791a7645e886526e36bbad2786", "too many failed binds: binds from this source are refused"},
	{"553138ea2d2b43d980fdc9144b239812", "binds from this source are taken again"},
	{"8289abc740a540d5a98d9687c967d7e8", "connections over the limits are closed"},
	{"9b4eaf8cb5bc40c0b7d37b2894ccd811", "accept failed, will go on"},
	{"586f4b39fe004ab9b63ac2db2aa4da4c", "push lane is full, messages go as plain SMS until it has room"},
	{"8525e3629e2a40ca8df3dd793635e2a7", "push lane has room again"},
	{"498b4ba0629141efb6efaf6be99cc498", "provider does not take pushes, messages go as plain SMS; it is tried again"},
	{"72160fe4272440d9b3eba9e4065930ef", "provider takes pushes again"},
	{"c34de07ecc8845ccaec549275bee8c47", "provider refuses pushes of this app; check its key, topic and project"},
	{"faefb6906e434492a0a9c4988d7090d2", "provider is unreachable"},
	{"026297741a0d49feb8a43183466d2daf", "provider token cannot be renewed"},
	{"fa12ca05e6f84d1887b72a9565bc44ab", "oauth token refused"},
	{"e0cb87c8c330455ea321b4129ba60db1", "oauth token cannot be fetched"},
	{"a1343663f398438e8a8e1dab9d4ccdc4", "no oauth token for the new service account, the old one stays in use; it is tried again"},
	{"c75b21de236841f792cf21a484fc796f", "secret file has changed and is unfit, the old content stays in use"},
	{"f6ad44af24ab4df5b1c256a865554227", "secret file cannot be read again, the old content stays in use"},
	{"4a74299519fc4325a69d7be4bdc2552e", "external registry does not answer, its numbers go as plain SMS; it is tried again"},
	{"e188e456907048ae98a13fc89356e6ac", "external registry answers again"},
	{"5c5a7e1bff4b4104adb7680c5e0f79f3", "external registry's answer was not taken, the number's messages go as plain SMS"},
	{"f820ae7717784565b88c96ec737e7239", "APNs key reloaded"},
	{"c3192b61e1df4ddaa2a4fd161a6cd256", "FCM service account reloaded"},
	{"95669e3fd49c4429857e5cd1cd542cbd", "dead token dropped"},
	{"09d3931aa0d644aa8e01f17609a061bb", "registry: index ready"},
	{"d0b788bc75b846629c5aafb2d2c69aa5", "registry: index not rebuilt, nothing is diverted"},
	{"8fd99677038047c1bb1c43c6f8190076", "registry: record skipped"},
	{"42e62f65cea440a1a17fe12c0f83f2af", "registry: corrupt record replaced"},
	{"c82907ffa2df4eb2a08e1f7e2ed927fd", "registry: commit failed"},
	{"2845cad787ef4d24b22db00283cee1d7", "call detail records cannot be written; the spool keeps what they are about"},
	{"70e0f236ef9a47babe25c63f1106489e", "call detail records are written again"},
	{"0e93b1ce44ab44d491cf9ba0432a530d", "call detail records have a gap: the files do not end where the spool begins"},
	{"db84a29b5a434c90a6e11acf077a5e65", "ESME refused a receipt"},
	{"4fcb60aa8aca450589f02e4986fd81cc", "message ended"},
	{"703fd160f7a54fd18b4e94b4048f4c11", "message moved"},
	{"4893776ec6be41e3982bc53af79194a3", "message lines left out"},
	{"cde3e39612e6402c8b911b4da6c39dfa", "verdicts"},
	{"b1f6d3a95c0e4e7c8e40d2f7193b6a58", "collector does not take traces, they are dropped"},
	{"18bf0ca240864f1399f3dae1c2a51bbf", "log lines lost"},
	{"78d22e3664d54fd8a7c211e25a6fad21", "watchdog: a loop does not come round"},
	{"ee13561f52e047069a59dbfe28927d51", "control socket: request panicked"},
	{"9d692b557bb4406b949a8367d1710132", "app api panicked"},
}

// messageLost is the journal handler's own.
const messageLost = "log lines lost"

var messageIDs = func() map[string]string {
	all := make(map[string]string, len(Messages))
	for _, m := range Messages {
		all[m.Text] = m.ID
	}
	return all
}()
