package store

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
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
func seal(b bucket, key []byte, v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	value := make([]byte, envelopeHeader, envelopeHeader+len(payload))
	value[0] = envelopeFormat
	binary.BigEndian.PutUint32(value[1:], checksum(b, key, payload))
	return append(value, payload...), nil
}

// unseal verifies value and returns its payload, which aliases value.
func unseal(b bucket, key, value []byte) ([]byte, error) {
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
func checksum(b bucket, key, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(0, table, []byte(b))
	crc = crc32.Update(crc, table, []byte{0})
	crc = crc32.Update(crc, table, key)
	crc = crc32.Update(crc, table, []byte{0})
	return crc32.Update(crc, table, payload)
}

// keyName is what a key stands for, in a form that is the same for all keys of its
// bucket: a port, a number, an id. A key that has not the form of its bucket is
// written like any other.
func keyName(b bucket, key []byte) string {
	switch {
	case b == bucketLeases && len(key) == 2:
		return strconv.Itoa(int(binary.BigEndian.Uint16(key)))
	case b == bucketPIDs && len(key) == 6:
		pid, port := splitPIDKey(key)
		return fmt.Sprintf("%d/%d", pid, port)
	case b == bucketEvents && len(key) == 8:
		return strconv.FormatUint(binary.BigEndian.Uint64(key), 10)
	case b == bucketEnded && len(key) > 10:
		at := time.UnixMilli(int64(binary.BigEndian.Uint64(key))).UTC()
		port := binary.BigEndian.Uint16(key[len(key)-2:])
		return fmt.Sprintf("%s/%s/%d", at.Format("2006-01-02T15:04:05.000Z"), keyText(key[8:len(key)-2]), port)
	case (b == bucketByJob || b == bucketByWorker) && len(key) > 9:
		return fmt.Sprintf("%s/%d", keyText(key[:len(key)-9]), binary.BigEndian.Uint64(key[len(key)-8:]))
	}
	return keyText(key)
}

// keyText makes a key readable in an error message.
func keyText(key []byte) string {
	if !utf8.Valid(key) {
		return hex.EncodeToString(key)
	}
	for _, r := range string(key) {
		if !unicode.IsPrint(r) {
			return hex.EncodeToString(key)
		}
	}
	return string(key)
}
