package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines without the time zone database

	"github.com/pelletier/go-toml/v2/unstable"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
)

const (
	day     = 24 * time.Hour
	forever = 3650 * day
)

// parse reads a whole file; it touches no other but the secrets.
func parse(file string, data []byte) (*Config, []Fault) {
	t := readTree(file, data)
	l := &loader{file: file, faults: t.faults, broken: len(t.faults) > 0}
	s := &section{loader: l, table: t.root}
	c := &Config{File: file}

	l.node(s, c)
	l.listen(s, c)
	smscs := l.smscs(s, c)
	l.intercept(s, c, smscs)
	l.accounts(s, c)
	apps := l.apps(s, c)
	l.plans(s, c)
	l.bodies(apps, c)
	l.policy(s, c)
	l.rest(s, c)
	l.smpp(s, c)
	l.limits(s, c)
	l.verification(s, c)
	l.registry(s, c)
	s.refuse("route")
	s.close()
	l.idle(s, c, smscs)

	slices.SortStableFunc(l.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return c, l.faults
}

func (l *loader) node(file *section, c *Config) {
	s, _ := file.sub("node")
	defer s.close()
	host, err := os.Hostname()
	if err != nil || identifier(host) != nil {
		host = "shunt"
	}
	c.Node.ID = get(s, "id", host, str(identifier))
	c.Node.DataDir = beside(c.File, get(s, "data_dir", "/var/lib/shunt", str(directory)))
}

func (l *loader) listen(file *section, c *Config) {
	sections := file.subs("listen")
	if !file.has("listen") {
		l.missing(top, "listen", "missing, want a [[listen]] with an addr for ESMEs to bind to")
	}
	seen := unique{}
	for _, s := range sections {
		a := must(s, "addr", `an address such as "0.0.0.0:2775"`, str(listenAddr))
		if !strings.HasSuffix(a, ":0") { // each of these gets a port of its own
			seen.check(s, "addr", a)
		}
		c.Listen = append(c.Listen, Listen{
			Addr: a, TLS: serverTLS(s),
			ProxyFrom: prefixes(s, "proxy_from"),
			ReusePort: get(s, "reuse_port", false, boolean),
		})
		s.close()
	}
}

// unique remembers where a value was first used.
type unique map[string]place

func (u unique) check(s *section, key, v string) {
	if v == "" {
		return
	}
	if first, ok := u[v]; ok {
		s.fault(s.where(key), key, "%s is used twice, first at line %d, want it once", quote(v), first.line)
		return
	}
	u[v] = s.where(key)
}

// smscs gives back the sections beside their SMSCs, for what other sections
// ask of them.
func (l *loader) smscs(file *section, c *Config) []*section {
	sections := file.subs("smsc")
	seen := unique{}
	for _, s := range sections {
		m := SMSC{
			Name:     must(s, "name", "a name", str(identifier)),
			Addr:     must(s, "addr", `an address such as "198.51.100.7:2775"`, str(remoteAddr)),
			SystemID: get(s, "system_id", "", str(systemID)),
			Password: s.secret("password_file", "", checkPassword),
			Bind:     get(s, "bind", Transceiver, oneOf[Bind](bindNames...)),
			Sessions: get(s, "sessions", 2, integer(1, 64)),
			Window:   get(s, "window", 500, integer(1, 65536)),
			Rate:     get(s, "rate", 2000, rate(1, 1_000_000)),

			MessageID: get(s, "message_id", IDRaw, oneOf[IDFormat](idFormatNames...)),
		}
		m.TLS = clientTLS(s)
		m.LocalAddr = get(s, "local_addr", netip.Addr{}, localAddr)
		m.ProxyHeader = get(s, "proxy", 0, oneOf[uint8]("none", "v2")) == 1
		m.Outbind = outbindFrom(s)
		seen.check(s, "name", m.Name)
		s.close()
		c.SMSCs = append(c.SMSCs, m)
	}
	return sections
}

func (l *loader) intercept(file *section, c *Config, smscs []*section) {
	s, _ := file.sub("intercept")
	defer s.close()
	get(s, "mode", "", mode)
	get(s, "message_id", 0, oneOf[uint8]("ulid"))
	i := Intercept{
		Upstream:     must(s, "upstream", "the name of an [[smsc]]", str(anything)),
		Divert:       get(s, "divert", DivertOn, oneOf[Divert](divertNames...)),
		FallbackSMSC: get(s, "fallback_smsc", "", str(anything)),
		ProbeEvery:   get(s, "probe_every", 10*time.Second, probeEvery),
	}
	c.Intercept = i
	l.names(s, c, "upstream")
	l.names(s, c, "fallback_smsc")
	if i.Divert != DivertOff && !s.has("fallback_smsc") {
		l.missing(s.table.at, "intercept.fallback_smsc",
			`missing, want the name of an [[smsc]] for Shunt's own bind, or divert = "off"`)
	}
	for k, m := range c.SMSCs {
		if m.Name == "" || m.Name != i.FallbackSMSC {
			if m.Outbind != nil {
				l.missing(smscs[k].where("outbind"), "smsc.outbind",
					"is of use for Shunt's own binds only, want it on the [[smsc]] that intercept.fallback_smsc names")
			}
			continue
		}
		for _, key := range []string{"system_id", "password_file"} {
			if !smscs[k].has(key) {
				l.missing(smscs[k].table.at, "smsc."+key, "missing, want it for Shunt's own bind: intercept.fallback_smsc names this SMSC")
			}
		}
	}
}

func mode(v *value) (string, error) {
	if v.kind == unstable.String && v.text == "terminating" {
		return "", fmt.Errorf(`"terminating" is %s, want "transparent"`, notAvailable)
	}
	_, err := oneOf[uint8]("transparent")(v)
	return v.text, err
}

// names checks that a key holds the name of an SMSC.
func (l *loader) names(s *section, c *Config, key string) {
	e := s.table.find(key)
	if e == nil || e.value.kind != unstable.String {
		return
	}
	if _, ok := c.SMSC(e.value.text); ok && e.value.text != "" {
		return
	}
	var all []string
	for _, m := range c.SMSCs {
		if m.Name != "" && !slices.Contains(all, m.Name) {
			all = append(all, m.Name)
		}
	}
	want := "one of " + quoteAll(all)
	if len(all) == 0 {
		want = "an [[smsc]] of that name"
	}
	l.missing(e.value.at, s.path(key), fmt.Sprintf("%s is the name of no [[smsc]], want %s", quote(e.value.text), want))
}

func (l *loader) accounts(file *section, c *Config) {
	seen := unique{}
	for _, s := range file.subs("account") {
		a := Account{
			SystemID:        must(s, "system_id", "the system_id of an ESME", str(systemID)),
			Divert:          get(s, "divert", false, boolean),
			DefaultAlphabet: get(s, "default_alphabet", coding.GSM7, alphabet),
			LocalAddr:       get(s, "local_addr", netip.Addr{}, localAddr),
			DataCoding1:     get(s, "data_coding_1", coding.Unsupported, dataCoding1),
			DefaultCountry:  get(s, "default_country", "", str(country)),
		}
		seen.check(s, "system_id", a.SystemID)
		a.Allow = prefixes(s, "allow")
		a.MaxBinds = get(s, "max_binds", 0, integer(1, 100_000))
		a.Outbind = outbind(s)
		s.refuse("password_file", "window", "rate")
		s.close()
		c.Accounts = append(c.Accounts, a)
	}
}

// localAddr takes an address of this machine; whether it has it shows when it
// connects.
func localAddr(v *value) (netip.Addr, error) {
	const want = `want an IP address of this machine such as "203.0.113.5"`
	if v.kind != unstable.String {
		return netip.Addr{}, fmt.Errorf("is %s, %s", kindName(v), want)
	}
	a, err := netip.ParseAddr(v.text)
	if err != nil || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("%s is none, %s", quote(v.text), want)
	}
	return a, nil
}

func dataCoding1(v *value) (coding.Alphabet, error) {
	i, err := oneOf[uint8]("gsm", "ascii")(v)
	return []coding.Alphabet{coding.GSM7, coding.ASCII}[i], err
}

func alphabet(v *value) (coding.Alphabet, error) {
	i, err := oneOf[uint8]("gsm", "latin1", "ascii", "gsm-packed", "cp1252")(v)
	return []coding.Alphabet{coding.GSM7, coding.Latin1, coding.ASCII, coding.GSM7Packed, coding.CP1252}[i], err
}

// apps gives back the sections beside their apps, for what the plans ask of
// them.
func (l *loader) apps(file *section, c *Config) []*section {
	sections := file.subs("app")
	seen := unique{}
	for _, s := range sections {
		a := App{ID: must(s, "id", "a name", str(identifier))}
		seen.check(s, "id", a.ID)
		a.Body = get(s, "body", Doorbell, oneOf[Body](bodyNames...))
		a.DefaultCountry = get(s, "default_country", "", str(writtenCountry))
		a.APIRate = get(s, "api_rate", 0, rate(1, maxAPIRate))
		a.presence(s)
		if p, ok := s.sub("apns"); ok {
			a.APNs = &APNs{
				TeamID:   must(p, "team_id", "the team's id", str(appleID)),
				KeyID:    must(p, "key_id", "the key's id", str(appleID)),
				Key:      p.secret("key_file", "the .p8 file from Apple", checkAPNsKey),
				Topic:    must(p, "topic", "the bundle id", str(topic)),
				Endpoint: get(p, "endpoint", "", str(endpoint)),
				CA:       p.secret("ca_file", "", checkCA),
			}
			p.close()
		}
		if p, ok := s.sub("fcm"); ok {
			a.FCM = &FCM{
				ServiceAccount: p.secret("service_account_file", "the service account's JSON", checkServiceAccount),
				Endpoint:       get(p, "endpoint", "", str(endpoint)),
				CA:             p.secret("ca_file", "", checkCA),
			}
			p.close()
		}
		if !s.has("apns") && !s.has("fcm") {
			l.missing(s.table.at, "app", "has no platform, want [app.apns], [app.fcm] or both")
		}
		s.close()
		c.Apps = append(c.Apps, a)
	}
	if len(c.Apps) > math.MaxUint16 { // msg.Entry has 16 bits for the app
		l.add(top, "app", fmt.Sprintf("there are %d, want at most %d", len(c.Apps), math.MaxUint16), false)
	}
	return sections
}

// bodies checks the apps whose pushes may carry the text against the plans. A
// text in a notification is read without a claim, so that the SMS comes too:
// it goes along only where the plan prefers that to a loss.
func (l *loader) bodies(apps []*section, c *Config) {
	if l.broken {
		return
	}
	with, without := false, []string(nil)
	for _, p := range c.Plans {
		switch {
		case !p.AppFirst():
		case p.Prefer == msg.PossibleDuplicate:
			with = true
		default:
			without = append(without, p.Name)
		}
		if p.Match.all() {
			break // no later plan is ever reached
		}
	}
	for i, s := range apps {
		switch {
		case c.Apps[i].Body != BodyText:
		case !with:
			s.fault(s.where("body"), "body", `"text" is allowed only with prefer = "possible-duplicate", which no [[plan]] for the app has; want "doorbell" or such a plan`)
		case len(without) > 0:
			s.warn(s.where("body"), "body", `"text" goes along only with prefer = "possible-duplicate"; pushes of these plans are doorbells: `+quoteAll(without))
		}
	}
}

func (l *loader) plans(file *section, c *Config) {
	seen := unique{}
	for _, s := range file.subs("plan") {
		p := BuiltInPlan()
		p.Name = must(s, "name", "a name", str(identifier))
		if seen.check(s, "name", p.Name); p.Name == builtInName {
			s.fault(s.where("name"), "name", "%s is the name of the last plan of every configuration, want another", quote(p.Name))
		}
		p.Order = order(s, p.Order)
		p.ClaimWithin = get(s, "claim_within", p.ClaimWithin, duration(time.Second, day))
		p.Lease = get(s, "lease", p.Lease, duration(time.Second, time.Hour))
		p.Prefer = get(s, "prefer", p.Prefer, oneOf[msg.Prefer](msg.PossibleLoss.String(), msg.PossibleDuplicate.String()))
		p.NoReceipts = !get(s, "require_receipts", true, boolean)
		ignore(s, "queue", oneOf[uint8]("interactive", "transactional", "bulk"))
		m, _ := s.sub("match")
		p.Match = Match{
			To:          list(m, "to", nil, prefix),
			From:        list(m, "from", nil, senderPattern),
			Account:     list(m, "account", nil, systemID),
			ServiceType: list(m, "service_type", nil, serviceType),
			Priority:    items(m, "priority", "integers", priority),
			Content:     items(m, "content", "strings", content),
			Hours:       items(m, "hours", "strings", hours),
			Zone:        get(m, "zone", nil, zone),
		}
		l.strangers(m, c)
		if m.has("zone") && !m.has("hours") {
			m.warn(m.where("zone"), "zone", "has no effect without hours")
		}
		m.close()
		s.close()
		c.Plans = append(c.Plans, p)
	}
	c.Plans = append(c.Plans, BuiltInPlan())
}

// priority takes a priority_flag (SMPP v3.4 §5.2.14).
func priority(v *value) (byte, error) {
	n, err := integer(0, 3)(v)
	return byte(n), err
}

func content(v *value) (msg.Content, error) {
	i, err := oneOf[msg.Content](msg.ContentNames[1:]...)(v)
	return i + 1, err
}

// hours takes a part of the day such as "08:00-20:00"; "22:00-06:00" goes over
// midnight.
func hours(v *value) (h msg.Hours, err error) {
	const want = `want a part of the day such as "08:00-20:00", or "22:00-06:00" over midnight`
	if v.kind != unstable.String {
		return h, fmt.Errorf("is %s, %s", kindName(v), want)
	}
	from, to, ok := strings.Cut(v.text, "-")
	if h.From, h.To = minutes(from), minutes(to); !ok || h.From < 0 || h.To < 0 || h.From == day24 || h.From == h.To {
		return h, fmt.Errorf("%s is none, %s", quote(v.text), want)
	}
	return h, nil
}

// day24 is 24:00, the end of a day.
const day24 = 24 * 60

// minutes reads "hh:mm", up to 24:00, as minutes since midnight; -1 is none.
func minutes(s string) int {
	if len(s) != 5 || s[2] != ':' {
		return -1
	}
	hour, err := digits(s[:2], 24)
	minute, err2 := digits(s[3:], 59)
	if m := int(hour*60 + minute); err == nil && err2 == nil && m <= day24 {
		return m
	}
	return -1
}

// zone takes a name of the IANA time zone database, which the program brings
// along.
func zone(v *value) (*time.Location, error) {
	const want = `want a name such as "Europe/London", or "UTC"`
	if v.kind != unstable.String {
		return nil, fmt.Errorf("is %s, %s", kindName(v), want)
	}
	z, err := time.LoadLocation(v.text)
	if err != nil || v.text == "" || v.text == "Local" {
		return nil, fmt.Errorf("%s is no time zone, %s", quote(v.text), want)
	}
	return z, nil
}

// strangers warns of accounts in a match that the file does not know: where
// there are accounts, others are never diverted.
func (l *loader) strangers(match *section, c *Config) {
	e := match.table.find("account")
	if e == nil || l.broken || len(c.Accounts) == 0 {
		return
	}
	for _, v := range e.value.items {
		if !slices.ContainsFunc(c.Accounts, func(a Account) bool { return a.SystemID == v.text }) {
			match.warn(v.at, "account", quote(v.text)+" is the system_id of no [[account]], so it is never diverted")
		}
	}
}

// order takes the two orders that this version has. The app alone would lose
// what no app claims, and the app after the carrier comes too late.
func order(s *section, dflt []Channel) []Channel {
	names := list(s, "order", nil, anything)
	switch {
	case !s.has("order"):
		return dflt
	case slices.Equal(names, []string{"app", "carrier"}):
		return []Channel{ViaApp, Carrier}
	case slices.Equal(names, []string{"carrier"}):
		return []Channel{Carrier}
	}
	s.fault(s.where("order"), "order", `is [%s], want ["app", "carrier"] or ["carrier"]`, quoteAll(names))
	return dflt
}

func (l *loader) policy(file *section, c *Config) {
	s, _ := file.sub("policy")
	defer s.close()
	c.Policy = Policy{
		DivertFrom:             list(s, "divert_from", nil, senderPattern),
		NeverDivertFrom:        list(s, "never_divert_from", nil, senderPattern),
		NeverDivertServiceType: list(s, "never_divert_service_type", []string{"WAP", "VMA", "VMN", "USSD"}, serviceType),
		AllowOTP:               get(s, "allow_otp", false, boolean),
		OTPAfterProof:          get(s, "otp_after_proof", 72*time.Hour, duration(0, forever)),
		Share:                  get(s, "share", 100, integer(0, 100)),
		AcceptedWithin:         get(s, "carrier_accepted_within", 0, acceptedWithin),
	}
}

// orOff takes "" too: nothing is opened.
func orOff(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// probeEvery takes 0 or at least a second.
func probeEvery(v *value) (time.Duration, error) {
	d, err := duration(0, day)(v)
	if err == nil && d > 0 && d < time.Second {
		err = fmt.Errorf(`%q is out of range, want "0", or from "1s" to %q`, v.text, showDuration(day))
	}
	return d, err
}

// acceptedWithin takes 0 or at least a minute: that often it is noted.
func acceptedWithin(v *value) (time.Duration, error) {
	d, err := duration(0, forever)(v)
	if err == nil && d > 0 && d < time.Minute {
		err = fmt.Errorf(`%q is out of range, want "0", or from "1m" to %q`, v.text, showDuration(forever))
	}
	return d, err
}

// idle warns of what has no use in a sound file.
func (l *loader) idle(file *section, c *Config, smscs []*section) {
	if Fatal(l.faults) {
		return
	}
	for k, m := range c.SMSCs {
		if m.Name != c.Intercept.Upstream && m.Name != c.Intercept.FallbackSMSC {
			smscs[k].warn(smscs[k].where("name"), "name", noEffect+": intercept names it neither as upstream nor as fallback_smsc")
		}
	}
	if c.Intercept.Divert == DivertOff {
		return
	}
	const none = "nothing will be diverted: "
	if len(c.Policy.DivertFrom) == 0 {
		l.add(file.where("policy"), "policy.divert_from", none+"no sender is in it", true)
	}
	if len(c.Apps) == 0 {
		l.add(top, "app", none+"there is no [[app]]", true)
	}
	if len(c.Accounts) > 0 && !slices.ContainsFunc(c.Accounts, func(a Account) bool { return a.Divert }) {
		l.add(file.where("account"), "account.divert", none+"no [[account]] has divert = true", true)
	}
}

// maxAPIRate bounds what is kept of a quota.
const maxAPIRate = 1000

func (l *loader) rest(file *section, c *Config) {
	s, _ := file.sub("store")
	c.Store.Key = s.secret("key_file", "", checkStoreKey)
	s.close()

	s, _ = file.sub("retention")
	c.Retention.Audit = get(s, "audit", 3*365*day, duration(0, forever))
	c.Retention.Messages = get(s, "messages", 72*time.Hour, duration(time.Minute, forever))
	c.CDR.Retention = get(s, "cdr", 30*day, duration(time.Minute, forever))
	s.close()

	s, _ = file.sub("api")
	allowed := loopbackAddr
	if c.API.TLS = serverTLS(s); c.API.TLS != nil {
		allowed = listenAddr
	}
	c.API.Listen = get(s, "listen", "127.0.0.1:8443", str(orOff(allowed)))
	c.API.Rate = get(s, "rate", 100, rate(0, maxAPIRate))
	c.API.CORSOrigins = list(s, "cors_origins", nil, origin)
	c.API.Streams = get(s, "streams", 10_000, integer(0, 1_000_000))
	c.API.StreamGrace = get(s, "stream_grace", 1500*time.Millisecond, duration(100*time.Millisecond, 10*time.Second))
	c.API.ReplyValidity = get(s, "reply_validity", 72*time.Hour, duration(time.Minute, 30*day))
	s.close()

	s, _ = file.sub("noc")
	c.NOC.Socket = beside(c.File, get(s, "socket", "/run/shunt/noc.sock", str(socketPath)))
	allowed = nocAddr
	if c.NOC.TLS = serverTLS(s); c.NOC.TLS != nil {
		allowed = listenAddr
	}
	c.NOC.Listen = get(s, "listen", "127.0.0.1:9464", str(allowed))
	c.NOC.Hosts = list(s, "hosts", nil, pageHost)
	c.NOC.Token = s.secret("token_file", "", checkPageToken)
	c.NOC.AlarmWebhook = get(s, "alarm_webhook", "", str(webhook))
	c.NOC.AlarmWebhookToken = s.secret("alarm_webhook_token_file", "", checkToken)
	c.NOC.AlarmWebhookCA = s.secret("alarm_webhook_ca_file", "", checkCA)
	for _, key := range []string{"alarm_webhook_token_file", "alarm_webhook_ca_file"} {
		if s.has(key) && !s.has("alarm_webhook") {
			s.warn(s.where(key), key, noEffect+": there is no alarm_webhook")
		}
	}
	s.close()

	s, _ = file.sub("otel")
	c.OTel = OTel{Endpoint: get(s, "endpoint", "", str(collector)), Token: s.secret("token_file", "", checkToken), CA: s.secret("ca_file", "", checkCA)}
	for _, key := range []string{"token_file", "ca_file"} {
		if s.has(key) && !s.has("endpoint") {
			s.warn(s.where(key), key, noEffect+": there is no endpoint")
		}
	}
	s.close()

	s, _ = file.sub("log")
	c.Log.FullNumbers = get(s, "numbers", 0, oneOf[uint8]("masked", "full")) == 1
	c.Log.Level = logLevels[get(s, "level", 1, oneOf[uint8]("debug", "info", "warn", "error"))]
	c.Log.Messages = get(s, "messages", MessagesFinal, oneOf[LogMessages](logMessageNames...))
	s.close()

	s, _ = file.sub("cdr")
	c.CDR.Forwarded = get(s, "forwarded", false, boolean)
	c.CDR.MaxSize = get(s, "max_size", 64<<20, size(64<<10, 4<<30))
	c.CDR.MaxAge = get(s, "max_age", day, duration(time.Minute, 30*day))
	s.close()
}

var logLevels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

func (l *loader) smpp(file *section, c *Config) {
	s, _ := file.sub("smpp")
	defer s.close()
	timer := duration(time.Second, time.Hour)
	c.SMPP = SMPP{
		SessionInit: get(s, "session_init", 10*time.Second, timer),
		EnquireLink: get(s, "enquire_link", 30*time.Second, timer),
		Response:    get(s, "response", 60*time.Second, timer),
		WriteStall:  get(s, "write_stall", 30*time.Second, timer),
		MaxPDU:      get(s, "max_pdu", 70<<10, size(4<<10, 1<<20)),
		Window:      get(s, "window", 4096, integer(1, 65536)),
		WindowFull:  get(s, "window_full", WindowWait, oneOf[WindowFull](windowFullNames...)),
		WriteBuffer: get(s, "write_buffer", 1<<20, size(64<<10, 16<<20)),
		Inactivity:  get(s, "inactivity", 0, duration(time.Minute, 30*24*time.Hour)),
	}
}
