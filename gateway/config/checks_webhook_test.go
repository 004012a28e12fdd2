package config

import (
	"strings"
	"testing"
)

func TestWebhook(t *testing.T) {
	for s, want := range map[string]string{
		"https://noc.example.com/a?b=c":              "",
		"https://192.0.2.7:8443/":                    "",
		"http://127.0.0.1:8080/a":                    "",
		"http://[::1]/a":                             "",
		"http://localhost/a":                         "",
		"http://noc.example.com/s3cret":              "is not encrypted",
		"http://192.0.2.7/s3cret":                    "is not encrypted",
		"https://me:s3cret@noc.example.com":          "holds a user",
		"ftp://noc.example.com/s3cret":               "is no URL",
		"https:///s3cret":                            "is no URL",
		"noc.example.com/s3cret":                     "is no URL",
		"https://noc.example.com/#s3cret":            "is no URL",
		"https://noc.example.com:0/s3cret":           "no sound host and port",
		"https://a..b/s3cret":                        "no sound host and port",
		"https://x/" + strings.Repeat("s3cret", 500): "is no URL",
	} {
		got := ""
		if err := webhook(s); err != nil {
			got = err.Error()
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
			t.Errorf("webhook(%.50s) = %q, want %q and nothing of the secret", s, got, want)
		}
	}
}
