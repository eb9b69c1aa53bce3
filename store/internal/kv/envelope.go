package kv

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
)

// The envelope of every value: one format byte, a CRC-32C (Castagnoli,
// big-endian), then JSON. bbolt checks only its two meta pages, so without it a
// flipped bit in a record would be read as a different, valid-looking record.
const (
	envelopeFormat = 1
	envelopeHeader = 5
)

var (
	errEnvelopeFormat = errors.New("unknown record format")
	errEnvelopeSum    = errors.New("checksum differs")
)

// seal wraps v. The result is fresh memory.
func seal(b Bucket, key []byte, v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	value := make([]byte, envelopeHeader, envelopeHeader+len(payload))
	value[0] = envelopeFormat
	binary.BigEndian.PutUint32(value[1:], checksum(b, key, payload))
	return append(value, payload...), nil
}

// Unseal verifies value and returns its payload, which aliases value.
func Unseal(b Bucket, key, value []byte) ([]byte, error) {
	if len(value) < envelopeHeader || value[0] != envelopeFormat {
		return nil, errEnvelopeFormat
	}
	payload := value[envelopeHeader:]
	if binary.BigEndian.Uint32(value[1:]) != checksum(b, key, payload) {
		return nil, errEnvelopeSum
	}
	return payload, nil
}

// checksum covers bucket and key too: a flipped bit in a key would otherwise
// move a good record to another port.
func checksum(b Bucket, key, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(0, table, []byte(b))
	crc = crc32.Update(crc, table, []byte{0})
	crc = crc32.Update(crc, table, key)
	crc = crc32.Update(crc, table, []byte{0})
	return crc32.Update(crc, table, payload)
}
