package config

import (
	"strings"
	"testing"
)

func TestChecks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		check   func(string) error
		yes, no []string
	}{
		{
			"identifier", identifier,
			[]string{"a", "smsc-a", "A.b_9", strings.Repeat("x", 63)},
			[]string{"", " ", "a b", "ä", "a/b", strings.Repeat("x", 64)},
		},
		{
			"remoteAddr", remoteAddr,
			[]string{"192.0.2.1:2775", "[2001:db8::1]:1", "[fe80::1%eth0]:2775", "smsc:65535", "a.b-c.example.:2775", "1a.example:1"},
			[]string{
				"", "host", "host:", ":2775", "host:0", "host:65536", "host:+1", "host:02775", "host:smpp", "2001:db8::1:2775",
				"192.0.2:2775", "192.0.2.256:2775", "a..b:1", "-a:1", "a-:1", "a b:1", "[host:1]:1", strings.Repeat("a", 64) + ":1",
				strings.Repeat("a.", 127) + "a:1", ".:1",
			},
		},
		{
			"listenAddr", listenAddr,
			[]string{":2775", "0.0.0.0:2775", "[::]:2775", "127.0.0.1:0", "[::1]:0", "localhost:0"},
			[]string{"", "2775", ":0", "0.0.0.0:0", "192.0.2.1:0", "192.0.2.1:99999"},
		},
		{
			"loopbackAddr", loopbackAddr,
			[]string{"127.0.0.1:8443", "127.9.9.9:1", "[::1]:8443", "localhost:8443", "[::ffff:127.0.0.1]:1"},
			[]string{"", ":8443", "0.0.0.0:8443", "[::]:8443", "192.0.2.1:8443", "localhost.example:8443", "localhost"},
		},
		{
			"endpoint", endpoint,
			[]string{"https://127.0.0.1:2197", "https://fcm.example/v1", "https://[::1]:1/v1"},
			[]string{"", "http://a", "https://", "https://u:p@a", "https://a?b", "https://a#b", "https://a:0", "https://:1", "https://a:b", "a:1"},
		},
		{
			"prefix", prefix,
			[]string{"+1", "+44", "+447700900042", "+123456789012345"},
			[]string{"", "+", "44", "+0", "+4 4", "+1234567890123456", "*", "+44*"},
		},
		{
			"senderPattern", senderPattern,
			[]string{"*", "BANK*", "*bank*", "112", "+44*", strings.Repeat("x", 20) + "*"},
			[]string{"", "ä", "a\x00", strings.Repeat("x", 21), strings.Repeat("*", 42)},
		},
		{"serviceType", serviceType, []string{"", "CMT", "USSD", "12345"}, []string{"123456", "é"}},
		{"systemID", systemID, []string{"a", "fifteen letters"}, []string{"", "sixteen letters!", "a\n"}},
		{"country", country, []string{"GB"}, []string{"", "gb", "G", "GBR", "G1"}},
		{"writtenCountry", writtenCountry, []string{"GB", "AR"}, []string{"", "gb", "G", "GBR", "XX"}},
		{"appleID", appleID, []string{"ABCDE12345"}, []string{"", "ABCDE1234", "abcde12345", "ABCDE123456", "ABCDE-1234"}},
		{"topic", topic, []string{"com.example.chat"}, []string{"", "a b", "ä", strings.Repeat("x", 156)}},
		{"socketPath", socketPath, []string{"/run/shunt/noc.sock"}, []string{"", "a\x00b", strings.Repeat("x", 108)}},
		{"directory", directory, []string{"/var/lib/shunt", "data"}, []string{"", "a\x00b"}},
		{"fileName", fileName, []string{"smsc.password"}, []string{"", "a\x00b"}},
	} {
		for _, s := range tt.yes {
			if err := tt.check(s); err != nil {
				t.Errorf("%s(%q): %v, want it taken", tt.name, s, err)
			}
		}
		for _, s := range tt.no {
			if err := tt.check(s); err == nil || !strings.Contains(err.Error(), "want") {
				t.Errorf("%s(%q): %v, want it refused in words that say what is allowed", tt.name, s, err)
			}
		}
	}
}
