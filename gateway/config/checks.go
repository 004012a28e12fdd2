package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"shunt/gateway/msg"
	"shunt/gateway/number"
)

// A check says what is wrong with a string and what is allowed.

func anything(string) error { return nil }

func fileName(s string) error {
	if s == "" || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s is no file name, want the name of a secret file", quote(s))
	}
	return nil
}

// identifier is for names that appear in commands, labels and file formats.
func identifier(s string) error {
	ok := s != "" && len(s) <= 63
	for _, c := range s {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_", c))
	}
	if !ok {
		return fmt.Errorf(`%s is no name, want 1 to 63 letters, digits, ".", "-" or "_"`, quote(s))
	}
	return nil
}

// cString is a check for a C-octet string field of SMPP that holds at most
// most octets besides its NUL.
func cString(least, most int) func(string) error {
	return func(s string) error {
		if len(s) < least || len(s) > most || !printableASCII(s) {
			return fmt.Errorf("%s does not fit into a PDU, want %d to %d printable ASCII characters", quote(s), least, most)
		}
		return nil
	}
}

// systemID has 16 octets with its NUL (SMPP v3.4 §5.2.1), serviceType 6
// (§5.2.11).
var (
	systemID    = cString(1, 15)
	serviceType = cString(0, 5)
)

func printableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7E {
			return false
		}
	}
	return true
}

// senderPattern: a source_addr has at most 20 characters (SMPP v3.4 §5.2.8).
func senderPattern(s string) error {
	if s == "" || !printableASCII(s) || len(strings.ReplaceAll(s, "*", "")) > 20 || len(s) > 41 {
		return fmt.Errorf(`%s is no sender, want 1 to 20 printable ASCII characters, "*" for any run of them`, quote(s))
	}
	return nil
}

func prefix(s string) error {
	d, ok := strings.CutPrefix(s, "+")
	for _, c := range d {
		ok = ok && c >= '0' && c <= '9'
	}
	if !ok || d == "" || len(d) > 15 || d[0] == '0' {
		return fmt.Errorf(`%s is no prefix, want "+" and 1 to 15 digits, country code first`, quote(s))
	}
	return nil
}

func country(s string) error {
	if len(s) != 2 || s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' {
		return fmt.Errorf(`%s is no country, want two capital letters such as "GB"`, quote(s))
	}
	if _, ok := msg.CountryOf(s); !ok {
		return fmt.Errorf("%s is no country whose national numbers are known, write its numbers internationally", quote(s))
	}
	return nil
}

// writtenCountry is any country whose numbers somebody may write nationally.
func writtenCountry(s string) error {
	if _, err := number.In(s); err != nil || s == "" {
		return fmt.Errorf(`%s is no country, want two capital letters such as "GB"`, quote(s))
	}
	return nil
}

// appleID is a team id or key id.
func appleID(s string) error {
	ok := len(s) == 10
	for _, c := range s {
		ok = ok && (c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
	}
	if !ok {
		return fmt.Errorf("%s is no id of Apple's, want 10 capital letters and digits", quote(s))
	}
	return nil
}

func topic(s string) error {
	if s == "" || len(s) > 155 || !printableASCII(s) || strings.ContainsRune(s, ' ') {
		return fmt.Errorf(`%s is no topic, want the bundle id, such as "com.example.chat"`, quote(s))
	}
	return nil
}

// origin is a web page's (RFC 6454 §6.2): no path, and the port only where it is
// not the scheme's own.
func origin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Scheme+"://"+strings.ToLower(u.Host) != s {
		return fmt.Errorf(`%s is no origin, want one such as "https://app.example.com", without a path`, quote(s))
	}
	if p := u.Port(); p != "" && !port(p, 1) {
		return fmt.Errorf(`%s has no sound port, want an origin such as "https://app.example.com:8443"`, quote(s))
	}
	return nil
}

func endpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf(`%s is no endpoint, want a URL such as "https://host:port"`, quote(s))
	}
	if p := u.Port(); u.Hostname() == "" || p != "" && !port(p, 1) {
		return fmt.Errorf(`%s has no sound host and port, want a URL such as "https://host:port"`, quote(s))
	}
	return nil
}

// webhook is a URL that alarms are posted to.
func webhook(s string) error {
	return posted(s, "https://noc.example.com/alarms", "alarm_webhook_token_file")
}

// collector is a URL that traces are posted to.
func collector(s string) error { return posted(s, "https://otel.example.com:4318", "otel.token_file") }

// posted is a URL that is posted to. What it may hold of secrets is not repeated.
func posted(s, example, token string) error {
	want := `want a URL such as "` + example + `"`
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Fragment != "" || len(s) > 2048:
		return errors.New("is no URL that can be posted to, " + want)
	case u.User != nil:
		return errors.New("holds a user, want a URL without: a password or token goes into " + token)
	case !hostName(u.Hostname()) || u.Port() != "" && !port(u.Port(), 1):
		return errors.New("has no sound host and port, " + want)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("is not encrypted, want https: http is for loopback addresses only")
	}
	return nil
}

func port(s string, least int) bool {
	n, err := digits(s, 65535)
	return err == nil && n >= int64(least) && s == strconv.FormatInt(n, 10)
}

// remoteAddr is where Shunt connects to.
func remoteAddr(s string) error {
	host, p, err := net.SplitHostPort(s)
	if err != nil || !hostName(host) || !port(p, 1) {
		return fmt.Errorf(`%s is no address, want "host:port" with a port from 1 to 65535`, quote(s))
	}
	return nil
}

// listenAddr is where Shunt listens. Port 0, any free one, is for tests and
// hence for loopback only.
func listenAddr(s string) error {
	host, p, err := net.SplitHostPort(s)
	if err != nil || host != "" && !hostName(host) || !port(p, 0) || p == "0" && !loopback(host) {
		return fmt.Errorf(`%s is no address, want "address:port" with a port from 1 to 65535`, quote(s))
	}
	return nil
}

func loopbackAddr(s string) error {
	if err := listenAddr(s); err != nil {
		return err
	}
	if host, _, _ := net.SplitHostPort(s); !loopback(host) {
		return fmt.Errorf(`%s is not loopback, want a loopback address such as "127.0.0.1:8443": others need tls = { cert_file = …, key_file = … }`,
			quote(s))
	}
	return nil
}

// nocAddr is without TLS: accounts are seen there, and a token may be typed.
func nocAddr(s string) error {
	if err := listenAddr(s); err != nil {
		return err
	}
	if host, _, _ := net.SplitHostPort(s); !loopback(host) {
		return fmt.Errorf(`%s is not loopback, want a loopback address such as "127.0.0.1:9464": others need tls = { cert_file = …, key_file = … }`, quote(s))
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || host == "localhost"
}

// pageHost takes a name that a browser may ask the page under.
func pageHost(s string) error {
	if _, err := netip.ParseAddr(s); err == nil || !hostName(s) {
		return errors.New(quote(s) + ` is no name, want one such as "noc.example.net", without a port; addresses need not be listed`)
	}
	return nil
}

// hostName takes an IP address or a DNS name (RFC 1123 §2.1).
func hostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > 253 || strings.ContainsRune(s, ':') {
		return false
	}
	numeric := true
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
			if !letter && (c < '0' || c > '9') {
				return false
			}
			numeric = numeric && !letter
		}
	}
	return !numeric // "1.2.3.400" is a mistyped address, not a name
}

// socketPath: sun_path has 108 octets with its NUL (unix(7)).
func socketPath(s string) error {
	if s == "" || len(s) > 107 || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s is no socket, want a path of 1 to 107 octets", quote(s))
	}
	return nil
}

func directory(s string) error {
	if s == "" || strings.ContainsRune(s, 0) {
		return fmt.Errorf(`%s is no directory, want one such as "/var/lib/shunt"`, quote(s))
	}
	return nil
}
