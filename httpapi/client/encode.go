package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrNotUTF8: a text that was to be sent is not valid UTF-8, and nothing was sent.
var ErrNotUTF8 = errors.New("is not valid UTF-8")

// Encode makes the JSON of a request. The error is ErrNotUTF8 and names the field:
// encoding/json would put U+FFFD in the place of such bytes, and the hive would use another
// path than was given.
func Encode(v any) (json.RawMessage, error) {
	if err := checkTexts("", reflect.ValueOf(v)); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return raw, nil
}

// encoded is a build of a request that has v as its body.
func encoded(v any, b func(server string, body io.Reader) (*http.Request, error)) build {
	return func(server string) (*http.Request, error) {
		raw, err := Encode(v)
		if err != nil {
			return nil, err
		}
		return b(server, bytes.NewReader(raw))
	}
}

// checkTexts looks at all that a value has, as far as requests have it: texts, in structs,
// maps by text, lists and behind pointers. field is where it is.
func checkTexts(field string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return fmt.Errorf("%s: %q %w", field, v.String(), ErrNotUTF8)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkTexts(field, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := checkTexts(fmt.Sprintf("%s[%d]", field, i), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			if err := errors.Join(checkTexts(field, key), checkTexts(under(field, key.String()), v.MapIndex(key))); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			if err := checkTexts(under(field, name), v.Field(i)); err != nil {
				return err
			}
		}
	default: // numbers and the like
	}
	return nil
}

func under(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}
