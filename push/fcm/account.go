package fcm

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"

	"shunt/push"
)

// maxAccountFile caps the service-account file; Google's has some 2.4 KiB.
const maxAccountFile = 64 << 10

// account is what Shunt needs of a service-account file.
type account struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	TokenURI     string `json:"token_uri"`
}

// parseAccount reads the content of a service-account file. Its errors name
// the member and quote no secret.
func parseAccount(b []byte) (*account, error) {
	var a account
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	if a.Type != "service_account" {
		return nil, fmt.Errorf(`type is %q: want "service_account"`, push.Code(a.Type, "something else"))
	}
	for _, f := range []struct{ name, value string }{
		{"project_id", a.ProjectID},
		{"client_email", a.ClientEmail},
		{"private_key", a.PrivateKey},
		{"token_uri", a.TokenURI},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("%s is missing", f.name)
		}
	}
	u, err := url.Parse(a.TokenURI)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("token_uri: want an https URL")
	}
	if url.PathEscape(a.ProjectID) != a.ProjectID {
		return nil, errors.New("project_id: holds characters that no project has")
	}
	if err := checkKey(a.PrivateKey); err != nil {
		return nil, fmt.Errorf("private_key: %w", err)
	}
	return &a, nil
}

// checkKey finds at start what the token exchange would find at night.
func checkKey(s string) error {
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return errors.New("holds no PEM block")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if err != nil {
		return errors.New("is no PKCS #8 or PKCS #1 key")
	}
	if _, ok := k.(*rsa.PrivateKey); !ok {
		return fmt.Errorf("is of type %T: want RSA", k)
	}
	return nil
}
