package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"rbeehive/store/internal/kv"
)

// Secret is 32 random bytes that belong to a state id: by them hive knows that a
// process has its stamps from hive, and has not merely read the ids in them, which are
// no secret. They are in the state file and its backups, which only their owner may
// read, and nowhere else: printed or encoded they do not show. Nil: not known.
type Secret []byte

const secretSize = 32

func newSecret() Secret {
	s := make(Secret, secretSize)
	_, _ = rand.Read(s) // it never fails: it ends the process instead
	return s
}

// Format keeps the secret out of everything that is printed.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }

// MarshalJSON keeps the secret out of everything that is encoded.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// decodeSecret reads a record, which is the bytes in base64. Its errors quote nothing.
func decodeSecret(payload []byte) (Secret, error) {
	var bytes []byte
	if json.Unmarshal(payload, &bytes) != nil || len(bytes) != secretSize {
		return nil, errors.New("it is not a secret of 32 bytes")
	}
	return bytes, nil
}

// secret returns nil for a file that only hives before stamps had a proof have used.
func (tx *Tx) secret() (Secret, error) {
	var payload json.RawMessage
	err := tx.kv.Get(kv.Meta, []byte(kv.KeySecret), &payload)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := decodeSecret(payload)
	if err != nil {
		return nil, tx.kv.Corrupt(kv.Meta, []byte(kv.KeySecret), err.Error())
	}
	return s, nil
}
