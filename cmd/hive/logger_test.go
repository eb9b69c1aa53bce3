package main_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/store/plain"
)

// Whatever is logged, a line is one line of plain text, on a terminal with the colours
// of logrus.
func TestTheLogIsPlainText(t *testing.T) {
	const foul = "a\x1b]0;x\x07\nb\u202e\u200b\u009b"
	for _, coloured := range []bool{false, true} {
		var out bytes.Buffer
		log := logrus.New()
		log.SetOutput(&out)
		log.SetFormatter(main.PlainMessage(&logrus.TextFormatter{FullTimestamp: true, DisableColors: !coloured, ForceColors: coloured}))
		log.WithError(errors.New(foul)).WithField("worker", foul).Warn(foul)
		text := out.String()
		require.Equal(t, coloured, strings.Contains(text, "\x1b["), "%q", text)
		require.Equal(t, 1, strings.Count(text, "\n"))
		require.Empty(t, plain.Flaw(strings.TrimSuffix(plain.Uncoloured(text), "\n")), "%q", text)
		require.Equal(t, 3, strings.Count(text, `]0;x`), "%q", text)
	}
}
