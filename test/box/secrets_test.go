package box

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"shunt/test/sim/books"
	sim "shunt/test/sim/esme"
	"shunt/test/sim/handset"
	"shunt/test/sim/stage"
)

// TestLogHoldsNoSecrets: a whole story with claims, fallbacks, one-time codes and
// errors, logged at debug level with every step of each message, has no text,
// token, bearer, password or unmasked number in the log, nor in what the
// operator's commands print.
func TestLogHoldsNoSecrets(t *testing.T) {
	dir := t.TempDir()
	out := demo(t, "--messages", "2000", "--numbers", "400", "--seed", "23", "--verbose", "--dir", dir)
	b, err := os.ReadFile(filepath.Join(dir, "shunt.log"))
	if err != nil {
		t.Fatal(err)
	}
	log := string(b)
	for _, want := range []string{"level=DEBUG", `msg="message moved"`, `msg="message ended"`, "msg=verdicts", "reason=one-time-code", "leg=app", "leg=smpp", "number=+4477"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: the story is not the one that this test is about", want)
		}
	}
	secrets := map[string]string{stage.Password: "a password"}
	for _, f := range sim.Fragments() {
		secrets[f] = "a text"
		secrets[strings.Trim(strconv.QuoteToASCII(f), `"`)] = "a text"
	}
	f, err := os.Open(filepath.Join(dir, stage.DevicesFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var d handset.Device
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		secrets[d.Token], secrets[d.Bearer], secrets[strings.TrimPrefix(d.Number, "+")] = "a push token", "a bearer", "a number"
	}
	for _, book := range []string{"bank.ndjson", "shop.ndjson"} {
		lines, err := books.Read[books.ESMELine](filepath.Join(dir, book))
		if err != nil {
			t.Fatal(err)
		}
		for i := range lines {
			if to := strings.TrimPrefix(lines[i].Dest, "+"); to != "" {
				secrets[to] = "a number"
			}
		}
	}
	if len(secrets) < 1500 {
		t.Fatalf("%d secrets to look for, want those of 400 phones and all texts", len(secrets))
	}
	for where, text := range map[string]string{"the log": log, "what the commands print": out} {
		for s, what := range secrets {
			if i := strings.Index(text, s); i >= 0 && s != "" {
				t.Errorf("%s holds %s: …%s…", where, what, text[max(i-80, 0):min(i+len(s)+20, len(text))])
			}
		}
	}
	if m := regexp.MustCompile(`\+\d{9,15}\b`).FindString(log); m != "" {
		t.Errorf("the log holds the number %s", m)
	}
}
