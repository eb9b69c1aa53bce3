package setting

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Field is one setting of a struct.
type Field struct {
	Key   string // "jobs.keep"; empty: the file has none for it
	Value reflect.Value
	Tag   reflect.StructTag
}

// Fields returns the settings of the struct that v points to, in their order there.
func Fields(v any) []Field { return fields("", reflect.ValueOf(v).Elem()) }

func fields(section string, v reflect.Value) (all []Field) {
	for f, value := range v.Fields() {
		key := f.Tag.Get("key")
		switch {
		case f.Anonymous && key == "":
			all = append(all, fields(section, reflect.Indirect(value))...)
		case key != "" && isSection(f.Type):
			all = append(all, fields(section+key+".", value)...)
		case key != "":
			all = append(all, Field{section + key, value, f.Tag})
		case f.Tag.Get("default") != "":
			all = append(all, Field{"", value, f.Tag})
		}
	}
	return all
}

// isSection tells a section from a value that happens to be a struct.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// Complete gives the defaults to the settings that are zero, in the struct that v points to.
func Complete(v any) {
	for _, f := range Fields(v) {
		text := f.Tag.Get("default")
		if text == "" || f.Tag.Get("zero") != "" || !f.Value.IsZero() {
			continue
		}
		if err := Parse(text, f.Value); err != nil {
			panic(fmt.Sprintf("default of %s: %v", f.Key, err))
		}
	}
}

// Parse sets v, which can be set, to what a text says. The error repeats the text and says
// what was expected.
func Parse(text string, v reflect.Value) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	var err error
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = ParseDuration(text)
		v.SetInt(int64(d))
	case v.Kind() == reflect.Int64:
		var n Size
		n, err = ParseSize(text)
		v.SetInt(int64(n))
	case v.Kind() == reflect.Int:
		var n int
		if n, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%q: expected an integer", text)
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			err = fmt.Errorf("%q: expected true or false", text)
		}
		v.SetBool(text == "true")
	case v.Kind() == reflect.String:
		v.SetString(text)
	default:
		err = fmt.Errorf("%q: no text can be made %s", text, v.Type())
	}
	return err
}

// ParseDuration wants a unit, also for 0, which time.ParseDuration takes without.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if _, number := strconv.ParseFloat(text, 64); err != nil || number == nil {
		return 0, fmt.Errorf("%q: expected a duration with a unit, as in 30s, 10m or 24h", text)
	}
	return d, nil
}

// Flaw says what of min and oneof a setting does not keep; empty: nothing.
func (f Field) Flaw() string {
	if words := strings.Fields(f.Tag.Get("oneof")); len(words) > 0 && !f.Value.IsZero() && !slices.Contains(words, f.Value.String()) {
		return fmt.Sprintf("%q: expected %s", f.Value.String(), strings.Join(words, " or "))
	}
	text := f.Tag.Get("min")
	if text == "" || f.Tag.Get("zero") != "" && f.Value.IsZero() {
		return ""
	}
	least := reflect.New(f.Value.Type()).Elem()
	if err := Parse(text, least); err != nil {
		panic(fmt.Sprintf("min of %s: %v", f.Key, err))
	}
	if f.Value.Int() >= least.Int() {
		return ""
	}
	why := fmt.Sprintf("%v: expected at least %v", shown(f.Value), shown(least))
	if zero := f.Tag.Get("zero"); zero != "" {
		why += fmt.Sprintf(", or %v for %s", shown(reflect.Zero(f.Value.Type())), zero)
	}
	if hint := f.Tag.Get("hint"); hint != "" {
		why += "; " + hint
	}
	return why
}

func shown(v reflect.Value) any {
	if v.Type() == reflect.TypeFor[int64]() {
		return Size(v.Int())
	}
	return v.Interface()
}

// Changed returns the keys of the settings that differ in two structs of one type, sorted.
func Changed[T any](a, b *T) []string {
	keys, next := []string{}, Fields(b)
	// By reflection, so that no new setting can be forgotten here.
	for i, f := range Fields(a) {
		if f.Key != "" && !equal(f.Value, next[i].Value) {
			keys = append(keys, f.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

// equal takes a list that was not given for an empty one.
func equal(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len()+b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
