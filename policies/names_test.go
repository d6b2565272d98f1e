package policies_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
)

func TestValidID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "0", "Z9._:@-", "a--", "mia@example.com", strings.Repeat("x", 128)} {
		require.True(t, policies.ValidID(id), "%q", id)
	}
	for _, id := range []string{"", ".a", "-a", "_a", ":a", "@a", "a b", "a/b", "a\x00", "ä", "a\n", "a%", strings.Repeat("x", 129)} {
		require.False(t, policies.ValidID(id), "%q", id)
	}
}

func TestValidActionName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"environment.control.StartEnv", "x", "a-b_c.D.1", strings.Repeat("x", 200)} {
		require.True(t, policies.ValidActionName(name), "%q", name)
	}
	for _, name := range []string{"", ".", "a.", ".a", "a..b", "a b", "a/b", "é", "a\n", "a:b", strings.Repeat("x", 201)} {
		require.False(t, policies.ValidActionName(name), "%q", name)
	}
}

func TestValidColor(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"#808080", "#00ff7F", "#ABCDEF"} {
		require.True(t, policies.ValidColor(c), c)
	}
	for _, c := range []string{"", "#fff", "808080", "#80808g", "#8080800", "red", "#８０８０８０"} {
		require.False(t, policies.ValidColor(c), c)
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		//nolint:gosmopolitan // names in any script are the point
		"a", " trimmed ", "Straße", "名前", "שם", "👩‍💻", "می\u200cخواهم", `"quoted" \ <b>`, strings.Repeat("é", 200),
		strings.Repeat("e\u0301", 200), // 200 characters once composed
	} {
		require.Empty(t, policies.CheckName(s, false), "%q", s)
		require.Empty(t, policies.CheckName(s, true), "%q", s)
	}
	for s, reason := range map[string]string{
		"a\x00b":                 "must not have control characters (U+0000)",
		"a\n":                    "must not have control characters (U+000A)",
		"\u0085":                 "must not have control characters (U+0085)",
		"a\u2028b":               "must not have control characters (U+2028)",
		"a\u202eb":               "must not have characters that change the direction of text (U+202E)",
		"\u200fa":                "must not have characters that change the direction of text (U+200F)",
		"a\u2066":                "must not have characters that change the direction of text (U+2066)",
		"a\u061c":                "must not have characters that change the direction of text (U+061C)",
		"\xff":                   "must be valid UTF-8",
		"\u200b":                 "must have a visible character",
		strings.Repeat("ж", 201): "must have at most 200 characters, not 201",
	} {
		require.Equal(t, reason, policies.CheckName(s, false), "%q", s)
		require.Equal(t, reason, policies.CheckName(s, true), "%q", s)
	}
	for _, s := range []string{"", "  ", "\u00a0\u3000"} {
		require.Equal(t, "must not be empty", policies.CheckName(s, false), "%q", s)
		require.Empty(t, policies.CheckName(s, true), "%q", s)
	}
}

func TestCheckEmail(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"mia@example.com", "Mia.O'Hara+tag@Sub.Example.org", "a@localhost", "имя@пример.рф", "a@bücher.example",
		strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + ".example",
	} {
		require.Empty(t, policies.CheckEmail(s), "%q", s)
	}
	for _, s := range []string{
		"", "mia", "@example.com", "mia@", "mia@@example.com", "mia@a@b", "mia @example.com", ".mia@example.com", "mia.@example.com",
		"m..a@example.com", "mia@-a.com", "mia@a-.com", "mia@a..com", "mia@.com", "mia@example.com.", "Mia <mia@example.com>",
		"mia@exam_ple.com", "mia@[127.0.0.1]", "mia\x00@example.com", "\u202emia@example.com", "\xff@example.com",
		strings.Repeat("a", 65) + "@example.com", "mia@" + strings.Repeat("b", 64) + ".com", "mia@" + strings.Repeat("b.", 130) + "com",
	} {
		require.NotEmpty(t, policies.CheckEmail(s), "%q", s)
	}
}

func TestNameKey(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"Viewer", "VIEWER", " viewer ", "vIeWeR"},
		{"Straße", "STRASSE", "strasse"},
		{"ΣΊΣΥΦΟΣ", "σίσυφος"},
		{"é", "e\u0301", "É", "E\u0301"},
		{"ﬁ", "FI"},
		{"Å", "\u212b", "å"},
	} {
		for _, s := range same {
			require.Equal(t, policies.NameKey(same[0]), policies.NameKey(s), "%q %q", same[0], s)
		}
	}
	require.NotEqual(t, policies.NameKey("a"), policies.NameKey("á"))
	require.NotEqual(t, policies.NameKey("Ivan"), policies.NameKey("ıvan"))
	require.Equal(t, policies.EmailKey("mia@example.com"), policies.EmailKey("Mia@Example.COM"))
}

func TestNameKeyIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "name")
		n, key := policies.NormalizeName(s), policies.NameKey(s)
		require.Equal(rt, n, policies.NormalizeName(n))
		require.True(rt, norm.NFC.IsNormalString(n))
		require.Equal(rt, key, policies.NameKey(n))
		require.Equal(rt, key, policies.NameKey(key))
		require.Equal(rt, key, policies.NameKey(norm.NFD.String(s)))
	})
}

// TestNameKeyOfEveryCharacter: characters that differ in case only have one key.
func TestNameKeyOfEveryCharacter(t *testing.T) {
	t.Parallel()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if unicode.In(r, unicode.Han, unicode.Hangul, unicode.Co) || !unicode.IsGraphic(r) {
			continue // no case; most of all there are
		}
		if other := unicode.SimpleFold(r); other != r && policies.NameKey(string(r)) != policies.NameKey(string(other)) {
			t.Errorf("%q %q", r, other)
		}
		if key := policies.NameKey(string(r)); key != policies.NameKey(key) {
			t.Errorf("%q", r)
		}
	}
}
