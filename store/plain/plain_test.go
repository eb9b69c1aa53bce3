package plain_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rbeehive/store/plain"
)

func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"":                         "",
		"nginx":                    "nginx",
		"C:\\x1b":                  "C:\\x1b",
		"\x1b]0;x\x07":             `\x1b]0;x\x07`,
		"\x1b[2J\x1b[1;1H":         `\x1b[2J\x1b[1;1H`,
		"a\nb\rc\td\x00\x7f":       `a\nb\rc\td\x00\x7f`,
		"\u009b31m\u0085":          `\u009b31m\u0085`,
		"\x9b31m":                  `\x9b31m`,
		"\xff\xfea\xc3":            `\xff\xfea\xc3`,
		"a\u202egpj.exe":           `a\u202egpj.exe`,
		"\u2066\u2069\u061c\u200e": `\u2066\u2069\u061c\u200e`,
		"ad\u200bmin\u2060\ufeff":  `ad\u200bmin\u2060\ufeff`,
		"a\u2028b\u2029":           `a\u2028b\u2029`,
		"\U000e0041\U000e007f":     `\U000e0041\U000e007f`,
		"so\u00adft \u3164 \u180e": `so\u00adft \u3164 \u180e`,
		"\ufffd stays":             "\ufffd stays",
		"Grüße, 你好 Привет":         "Grüße, 你好 Привет",
		"שלום مرحبا हिन्दी ไทย 한국어":          "שלום مرحبا हिन्दी ไทย 한국어",
		"e\u0301 ❤\ufe0f 🐝 \u0600\U0001f1e9": "e\u0301 ❤\ufe0f 🐝 \u0600\U0001f1e9",
		"\u00a0\u3000": "\u00a0\u3000",
	} {
		require.Equal(t, want, plain.Text(s))
		require.Equal(t, want == s, plain.Flaw(s) == "", "%q: %s", s, plain.Flaw(s))
	}
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = plain.Text("llama-server Grüße") }))
}

// Everything that a terminal or a reader could be deceived with, by its block.
func TestNothingHiddenIsPlain(t *testing.T) {
	for _, block := range [][2]rune{
		{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
	} {
		for r := block[0]; r <= block[1]; r++ {
			require.True(t, plain.Hidden(r), "%U", r)
		}
	}
	for _, r := range "aZ0 ~\u00a0äß\u0300\u05d0\u0627\u0915\u0e01中\uac00\U0001f41d\ufe0f" {
		require.False(t, plain.Hidden(r), "%U", r)
	}
}

func TestClip(t *testing.T) {
	require.Equal(t, "abc", plain.Clip("abc", 3))
	require.Equal(t, "ab...", plain.Clip("abc", 2))
	require.Equal(t, "...", plain.Clip("abc", 0))
	require.Equal(t, "ä...", plain.Clip("ää", 3), "no character is cut")
	require.Equal(t, "🐝...", plain.Clip("🐝🐝", 7))
	require.Equal(t, `\x1b[...`, plain.Clip("\x1b[2J", 5))
	require.Equal(t, "...", plain.Clip("\x1b[2J", 3), "no escape is cut")
}

func TestUncoloured(t *testing.T) {
	require.Equal(t, "(pid 1) ERROR", plain.Uncoloured("\x1b[1;36m(pid 1)\x1b[0;0m \x1b[38:5:1mERROR\x1b[m"))
	require.Equal(t, "50%\r100%", plain.Uncoloured("50%\x1b[K\r\x1b[2K100%"))
	require.Equal(t, "\x1b[2J\x1b]0;m", plain.Uncoloured("\x1b[2J\x1b]0;m"), "nothing else")
}

func TestFlaw(t *testing.T) {
	require.Equal(t, "has control characters", plain.Flaw("a\x1b"))
	require.Equal(t, "has control characters", plain.Flaw("a\u2028"))
	require.Equal(t, "is not valid UTF-8", plain.Flaw("a\xff"))
	require.Contains(t, plain.Flaw("a\u202e"), `has \u202e, which is invisible`)
}

func TestHome(t *testing.T) {
	for _, s := range []string{"~", "~/", "~/m.gguf", "~root", "~bob/m.gguf", "~a.b-c_1/x"} {
		require.Contains(t, plain.Home(s), "only to a shell", s)
	}
	for _, s := range []string{"", "a~", "/~/x", "./~/x", "m~1.gguf", "~5", "~1.5", "~ x", "~~"} {
		require.Empty(t, plain.Home(s), s)
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "\x1b]0;x\x07", "\xff\u202e\U000e0001", "Grüße\n", "\\x1b", "\xe2\x80", "a\u200d❤\ufe0f"} {
		f.Add(seed, 5)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		text := plain.Text(s)
		require.True(t, utf8.ValidString(text))
		require.False(t, strings.ContainsFunc(text, plain.Hidden), "%q", text)
		require.Equal(t, text, plain.Text(text), "it can be called twice")
		require.Equal(t, text == s, plain.Flaw(s) == "")
		if most = most % 100; most >= 0 {
			short := plain.Clip(s, most)
			require.Empty(t, plain.Flaw(short))
			require.LessOrEqual(t, len(short), most+3)
			require.Equal(t, short == text, len(text) <= most)
		}
	})
}
