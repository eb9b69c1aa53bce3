package output_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/output"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"  a  b ", []string{"a b"}},
		{"one two three", []string{"one two", "three"}},
		{"unbreakably long", []string{"unbreakably", "long"}},
		{"run `sysctl -w a=b` now", []string{"run", "`sysctl -w a=b`", "now"}},
		{"set `a` and (`b c`) too", []string{"set `a`", "and", "(`b c`)", "too"}},
		{"never `closed at all", []string{"never", "`closed at all"}},
		{"ä ö ü ß ÄÖ", []string{"ä ö ü ß", "ÄÖ"}},
	} {
		require.Equal(t, c.want, output.Wrap(c.text, 8), c.text)
	}
}
