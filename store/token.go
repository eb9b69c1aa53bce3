package store

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"rbeehive/store/internal/kv"
)

// Token is a secret that callers of the API send, as far as it is recorded: never
// the secret itself.
type Token struct {
	Name string `json:"name"`
	// SHA256 is of the secret, in hexadecimal digits. The secret is random and long,
	// so its plain hash is as good as one that is slow.
	SHA256 string `json:"sha256"`
	// Level is what it is for: read, operate (workers of Types) or admin.
	Level     string     `json:"level"`
	Types     []string   `json:"types,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy *Requester `json:"created_by,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // nil: never
}

// metaToken begins the keys of tokens in meta. They are few and belong to the state
// as a whole, and a hive that does not know them yet can open the file.
const metaToken = "token/"

// MaxTokens is how many tokens a state can have: each start reads all of them.
const MaxTokens = 256

// PutToken writes t under its name, over what was there.
func (tx *Tx) PutToken(t Token) error {
	if t.Name == "" || t.SHA256 == "" {
		return fmt.Errorf("token %q: %w: no name, or no hash", t.Name, ErrInvalid)
	}
	if err := tx.kv.Put(kv.Meta, []byte(metaToken+t.Name), t); err != nil {
		return fmt.Errorf("write token %s: %w", t.Name, err)
	}
	return nil
}

// Token returns the token of a name. Errors: ErrNotFound.
func (tx *Tx) Token(name string) (t Token, err error) {
	if err := tx.kv.Get(kv.Meta, []byte(metaToken+name), &t); err != nil {
		return Token{}, fmt.Errorf("token %s: %w", name, err)
	}
	return t, nil
}

// DeleteToken removes a token. Errors: ErrNotFound.
func (tx *Tx) DeleteToken(name string) error {
	// A damaged one can be removed, too.
	if _, err := tx.Token(name); err != nil && !errors.As(err, new(*CorruptError)) {
		return err
	}
	if err := tx.kv.Delete(kv.Meta, []byte(metaToken+name)); err != nil {
		return fmt.Errorf("remove token %s: %w", name, err)
	}
	return nil
}

// Tokens yields all tokens by name. An error ends it.
func (tx *Tx) Tokens() iter.Seq2[Token, error] {
	return kv.All[Token](tx.kv, kv.Meta, kv.Range{Prefix: []byte(metaToken)})
}
