package httpapi

import (
	"errors"
	"io"
	"net/http"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/httpapi/wire"
)

// maxBodyBytes is how long a body may be.
const maxBodyBytes = 1 << 20

// readBody reads at most maxBodyBytes. The server's read limit bounds the time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, err
	}
	if err != nil {
		return nil, badField("body", "was not received completely: "+err.Error())
	}
	return body, nil
}

// parseWait reads a duration with a unit; 0 when absent.
func parseWait(text *wire.Wait) (time.Duration, error) {
	if orZero(text) == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(*text)
	if err != nil || wait < 0 {
		return 0, badField("wait", "a duration with a unit is expected, such as 30s")
	}
	return wait, nil
}

// orZero is the value of an optional parameter, the zero value when absent.
func orZero[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}

// badField is the error for a wrong query parameter, header or path element.
func badField(field, expected string) error {
	return &errdefs.InputError{Kind: errdefs.ErrBadRequest, Field: field, Detail: expected}
}

// missing is the error for a parameter that has to be there.
func missing(name string) error {
	if name == "lease_id" {
		return badField(name, "is required: the proof of holding that the acquisition gave")
	}
	return badField(name, "is required")
}
