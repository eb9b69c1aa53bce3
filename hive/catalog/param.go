package catalog

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Param is one parameter of a type, {{.Params.<name>}} of its templates. It is
// either fixed or free.
type Param struct {
	// Default is the value where a spawn gives none; it may be empty.
	Default string
	// Pattern is the regular expression (RE2) of a free parameter: the whole of a
	// value that a spawn gives must match it, or be the default. Empty if Fixed.
	Pattern string
	// Fixed: only the configuration sets it, and a spawn that gives it is refused.
	Fixed bool

	re *regexp.Regexp // of Pattern, leftmost-longest; nil if Fixed
}

// ParamEntry is one key of params in an entry: the default alone, or a mapping. A
// nil pointer means that the key was not given.
type ParamEntry struct {
	Default *string `mapstructure:"default"` // nil: the preset's, else empty
	Pattern *string `mapstructure:"pattern"` // makes it free
	Fixed   *bool   `mapstructure:"fixed"`
}

// word is the pattern of a parameter of which an entry says nothing but a default.
// Its values are no flag ('-' first), no path ('/'; ".." is nothing without one), no
// reference to a file ('@' or '~' first), no list or second option of a flag that
// takes several (',', '=' or ':'), and nothing that a shell, a quoted text or the
// syntax of a configuration file could end at (spaces, quotes, ';', '$', braces). Nor
// are they empty: an argument that renders empty is left out, and the flag before it
// would take the next one for its value.
const word = `[A-Za-z0-9][A-Za-z0-9._-]*`

// port is the pattern of a parameter that is a port which needs no privilege, or 0,
// or nothing.
const port = `(0|102[4-9]|10[3-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?`

// free is a parameter that a spawn may set. It panics on a pattern that is none: the
// patterns of presets are constants.
func free(value, pattern string) Param {
	return Param{Default: value, Pattern: pattern, re: whole(regexp.MustCompile(pattern))}
}

// fixed is a parameter that only an entry may set: a program, a script, a directory,
// anything that is code or a path.
func fixed(value string) Param { return Param{Default: value, Fixed: true} }

// whole prepares a pattern for matches. It is not wrapped into \A(?:...)\z, out of
// which a pattern such as `a)|(b` or `\Qa` could break.
func whole(re *regexp.Regexp) *regexp.Regexp {
	// Leftmost-longest: else a|ab would find only a in ab, and not the whole value.
	re.Longest()
	return re
}

// matches reports whether the whole of a value matches the pattern. The leftmost
// match is the longest one from where it begins: if any match is the whole value,
// it is the one that is found.
func (p Param) matches(value string) bool {
	at := p.re.FindStringIndex(value)
	return at != nil && at[0] == 0 && at[1] == len(value)
}

// check says why a spawn may not set the parameter to a value; nil: it may. The
// default is as the entry wants it, so that it can always be said again.
func (p Param) check(value string) error {
	switch {
	case p.Fixed:
		return errors.New("is fixed: only the configuration sets it (params of the entry; with a pattern there a spawn may, too)")
	case value == p.Default || p.matches(value):
		return nil
	}
	return fmt.Errorf("is %.80q; expected a value that matches %s as a whole", value, p.Pattern)
}

// over is the parameter that an entry makes of one of its preset, or of none. On an
// error it also returns the key at fault, relative to the parameter's.
func (e ParamEntry) over(preset *Param) (p Param, key string, err error) {
	if preset != nil {
		p = *preset
	}
	key = ".default"
	if e.Pattern == nil && e.Fixed == nil {
		key = "" // it is most likely written as a plain text
	}
	if e.Default != nil {
		p.Default = *e.Default
	}
	if why := badValue(p.Default); why != "" {
		return p, key, fmt.Errorf("%.80q %s", p.Default, why)
	}
	switch isFixed := e.Fixed != nil && *e.Fixed; {
	case isFixed && e.Pattern != nil:
		return p, ".pattern", errors.New("contradicts fixed: what only the configuration sets needs no pattern; remove one of them")
	// An entry may fix what its preset leaves to callers.
	case isFixed:
		p = fixed(p.Default)
	case e.Pattern != nil:
		re, err := compile(*e.Pattern)
		if err != nil {
			return p, ".pattern", fmt.Errorf("%.80q: expected a regular expression that the whole of a value matches, such as [0-9]+ (%w)", *e.Pattern, err)
		}
		p = Param{Default: p.Default, Pattern: *e.Pattern, re: re}
	case preset != nil && p.Fixed && e.Fixed != nil:
		return p, ".fixed", errors.New("false needs a pattern: the preset does not say which values a spawn may give")
	case preset == nil:
		p = free(p.Default, word)
		// A default that is no word, such as a path, is hardly for callers to set.
		if e.Fixed == nil && !p.takesDefault() {
			p = fixed(p.Default)
		}
	}
	if !p.takesDefault() {
		return p, key, fmt.Errorf("%.80q does not match its pattern %s as a whole; give the parameter another pattern, or fixed: true", p.Default, p.Pattern)
	}
	return p, "", nil
}

// takesDefault reports whether the default is a value that a spawn could give. An
// empty one stands for no value at all.
func (p Param) takesDefault() bool { return p.Fixed || p.Default == "" || p.matches(p.Default) }

// compile reads a pattern. It is shown to callers, in one line.
func compile(pattern string) (*regexp.Regexp, error) {
	switch {
	case pattern == "":
		return nil, errors.New("it is empty")
	case strings.ContainsFunc(pattern, unicode.IsControl):
		return nil, errors.New("it has a control character")
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return whole(re), nil
}

// params are those of the preset, with what the entry says over them. On an error
// it also returns the key at fault.
func (e *Entry) params(preset map[string]Param) (all map[string]Param, key string, err error) {
	all = maps.Clone(preset)
	for _, name := range slices.Sorted(maps.Keys(e.Params)) {
		key := "params." + name
		if !paramRE.MatchString(name) {
			return nil, key, errors.New("a parameter's name is made of a-z, 0-9 and '_'")
		}
		var base *Param
		if p, ok := preset[name]; ok {
			base = &p
		}
		p, sub, err := e.Params[name].over(base)
		if err != nil {
			return nil, key + sub, err
		}
		if all == nil {
			all = map[string]Param{}
		}
		all[name] = p
	}
	return all, "", nil
}

// defaults are the values of parameters where a spawn gives none; nil if there are
// no parameters.
func defaults(params map[string]Param) map[string]string {
	if len(params) == 0 {
		return nil
	}
	values := make(map[string]string, len(params))
	for name, p := range params {
		values[name] = p.Default
	}
	return values
}
