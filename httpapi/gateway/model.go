package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

const (
	maxName     = 512 // bytes of a model's name, as in hive's configuration
	modelHeader = "X-Hive-Model"
	upstream    = "/upstream/"
)

// wanted is what a request asks for.
type wanted struct {
	name string
	path string // at the worker
	// Where in a JSON body the value of model stands, to be replaced; to 0: nowhere.
	from, to int64
}

// want finds the model that a request is for: in the path, the body, the query or a header, in this order.
// The error is a *refusal.
func want(r *http.Request, b *body) (wanted, error) {
	v := wanted{path: r.URL.EscapedPath()}
	if rest, ok := strings.CutPrefix(v.path, upstream); ok {
		name, path, _ := strings.Cut(rest, "/")
		// A slash of the name is encoded there.
		decoded, err := url.PathUnescape(name)
		if err != nil {
			return v, refuse(http.StatusBadRequest, "model_invalid", "the name of the model in the path: %v", err)
		}
		v.name, v.path = decoded, "/"+path
		return v, v.check()
	}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	err := b.look(func(text []byte) (err error) {
		switch {
		case len(text) == 0:
		case kind == "multipart/form-data":
			v.name, err = formModel(text, params["boundary"])
		// curl -d says that it is a form, clients of scripts say nothing.
		case kind == "application/json", kind == "", kind == "application/x-www-form-urlencoded" && text[0] == '{':
			err = v.inJSON(text)
		}
		return err
	})
	if err != nil {
		return v, err
	}
	if v.name == "" {
		v.name = r.URL.Query().Get("model")
	}
	if v.name == "" {
		v.name = r.Header.Get(modelHeader)
	}
	return v, v.check()
}

func (v *wanted) check() error {
	switch {
	case v.name == "":
		return refuse(http.StatusBadRequest, "model_missing", "the request says no model: expected the field \"model\" in the body (JSON or a form), the query parameter model, or the header %s", modelHeader)
	case len(v.name) > maxName:
		return refuse(http.StatusBadRequest, "model_invalid", "model has %d bytes; expected the name of a model, at most %d", len(v.name), maxName)
	}
	return nil
}

// inJSON finds the top-level field model. Said twice it could mean one model here and another to the
// engine.
func (v *wanted) inJSON(text []byte) error {
	if tooDeep(text) {
		return refuse(http.StatusBadRequest, "invalid_json", "the body is nested more than %d deep", maxDepth)
	}
	if !gjson.ValidBytes(text) {
		return refuse(http.StatusBadRequest, "invalid_json", "the body is not valid JSON")
	}
	all := gjson.Parse(unsafe.String(unsafe.SliceData(text), len(text))) //nolint:gosec // gjson.ParseBytes would copy it, and nothing of it is kept
	if !all.IsObject() {
		return nil
	}
	times := 0
	var found gjson.Result
	all.ForEach(func(key, value gjson.Result) bool {
		if key.String() == "model" {
			times++
			found = value
		}
		return times < 2
	})
	switch {
	case times == 0:
		return nil
	case times > 1:
		return refuse(http.StatusBadRequest, "model_invalid", "model is said twice in the body")
	case found.Type != gjson.String:
		return refuse(http.StatusBadRequest, "model_invalid", "model is %s; expected a string, the name of a model", found.Type)
	}
	v.name = strings.Clone(found.String())
	v.from, v.to = int64(found.Index), int64(found.Index+len(found.Raw))
	return nil
}

// maxDepth is how deep JSON may be nested, as in encoding/json.
const maxDepth = 10_000

// tooDeep reports whether a text is nested too deep to be given to gjson, which calls itself for each
// level: a stack that is full ends the process.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// rename has the body name the model as the engine does.
func (v *wanted) rename(b *body, engine string) {
	if v.to == 0 || engine == "" || engine == v.name {
		return
	}
	text, _ := json.Marshal(engine) // of a string
	b.replace(v.from, v.to, text)
}

// formModel finds the field model of a form. It may stand behind files of any length, which are passed over.
func formModel(text []byte, boundary string) (string, error) {
	if boundary == "" {
		return "", refuse(http.StatusBadRequest, "invalid_form", "the Content-Type of the form says no boundary")
	}
	form := multipart.NewReader(bytes.NewReader(text), boundary)
	name := ""
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return name, nil
		}
		if err != nil {
			return "", refuse(http.StatusBadRequest, "invalid_form", "the form cannot be read: %v", err)
		}
		if part.FormName() != "model" || part.FileName() != "" {
			continue
		}
		if name != "" {
			return "", refuse(http.StatusBadRequest, "model_invalid", "model is said twice in the form")
		}
		value, err := io.ReadAll(io.LimitReader(part, maxName+1))
		if err != nil {
			return "", refuse(http.StatusBadRequest, "invalid_form", "the form cannot be read: %v", err)
		}
		name = string(value)
	}
}
