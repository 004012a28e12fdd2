package api

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every path that the guide for app developers names is in the document.
func TestGuideNamesRealPaths(t *testing.T) {
	guide, err := os.ReadFile("../../docs/app-guide.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	paths := r.do("GET", "/openapi.json", "", nil).fields["paths"].(map[string]any)
	known := map[string]bool{"/v1/replies": true, "/v1/stream": true} // the rig serves neither
	for p := range paths {
		known[regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(p, "*")] = true
	}
	named := regexp.MustCompile(`/v1/[a-z]+(?:/(?:\$[A-Z]+|\{[a-z]+\}|[a-z]+))*`).FindAllString(string(guide), -1)
	if len(named) < 10 {
		t.Fatalf("the guide names %d paths: %q", len(named), named)
	}
	for _, p := range named {
		p = regexp.MustCompile(`\$[A-Z]+|\{[a-z]+\}`).ReplaceAllString(strings.TrimSuffix(p, "/"), "*")
		if !known[p] {
			t.Errorf("the guide names %s, which is not in /openapi.json", p)
		}
	}
}
