package policies_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// line is what is compared of a DocumentLine.
type line struct {
	line    int
	account policies.AccountID
	err     string // "" if there is none
}

func read(r io.Reader, contentType string) []line {
	var got []line
	for d := range policies.ReadDocuments(r, contentType) {
		l := line{line: d.Line, account: d.Account}
		if d.Err != nil {
			l.err = d.Err.Error()
		}
		got = append(got, l)
	}
	return got
}

func doc(id string) string {
	return `{"account": {"id": "` + id + `", "email": "` + id + `@example.com"}}`
}

func TestReadDocuments(t *testing.T) {
	t.Parallel()
	const (
		array  = "application/json; charset=utf-8"
		ndjson = "application/x-ndjson"
	)
	deep := strings.Repeat("[", 100_000)
	for _, test := range []struct {
		name, media, input string
		want               []line
	}{
		{"lines", ndjson, doc("a") + "\n" + doc("b"), []line{{1, "a", ""}, {2, "b", ""}}},
		{"lines that are empty, and Windows'", ndjson, "\n\r\n" + doc("a") + "\r\n \n" + doc("b") + "\n\n", []line{{3, "a", ""}, {5, "b", ""}}},
		{"nothing", ndjson, "", nil},
		{"bad lines between good ones", ndjson, strings.Join([]string{
			doc("a"), `{`, doc("b"), `{"account": {"id": "c", "id": "c"}}`, "\xff", deep, `{"account": {"id": "d"}}`, `[]`, doc("e"),
			`{"groups": [{"x": [1, {}]}], "account": {"email": 3, "id": "f"}}`,
		}, "\n"), []line{
			{1, "a", ""},
			{2, "", "is not valid JSON: unexpected EOF (line 2, column 2)"},
			{3, "b", ""},
			{4, "c", "/account/id: stands twice"},
			{5, "", `is not valid JSON: invalid character '\xff' at start of value (line 5, column 1)`},
			{6, "", "must be an object, not an array"},
			{7, "d", "account.email is required"},
			{8, "", "must be an object, not an array"},
			{9, "e", ""},
			{10, "f", "/groups/0/x: is not a known field"},
		}},
		{"an array", array, "[" + doc("a") + ",\n\n" + doc("b") + "\n, " + doc("c") + "]\n", []line{{1, "a", ""}, {3, "b", ""}, {4, "c", ""}}},
		{"an empty array", array, "[]", nil},
		{"one document over many lines", array, "\n\n{\n\"account\":\n{\"id\":\"a\", \"email\":\"a@example.com\"}}\n", []line{{3, "a", ""}}},
		{"bad documents between good ones", array, "[" + doc("a") + ",\n{\"account\": {\"id\": \"b\", \"x\": \"\xff\"}},\n3,\n{\"account\":{},\"account\":{}},\n" + doc("c") + "]", []line{
			{1, "a", ""}, {2, "b", "/account/x: is not a known field"}, {3, "", ", not a number"}, {4, "", "/account: stands twice"}, {5, "c", ""},
		}},
		{"an array that breaks", array, "[" + doc("a") + ",\n" + doc("b") + "\n" + doc("c") + "]", []line{
			{1, "a", ""}, {2, "b", ""}, {3, "", "is not valid JSON: invalid character '{' after array element (expecting ',' or ']')"},
		}},
		{"an array that is cut off", array, "[" + doc("a") + ",\n", []line{{1, "a", ""}, {2, "", "is not valid JSON: unexpected EOF"}}},
		{"an array that is not closed", array, "[" + doc("a"), []line{{1, "a", ""}, {1, "", "is not valid JSON: unexpected EOF"}}},
		{"something after the array", array, "[]\n[]", []line{{2, "", "has something after its end"}}},
		{"too deep", array, "[" + deep, []line{{1, "", "exceeded max depth"}}},
		{"nothing at all", array, "", []line{{1, "", "is not valid JSON: there is nothing"}}},
		{"another type", "text/plain", doc("a"), []line{{1, "", "Content-Type: must be application/json or application/x-ndjson"}}},
		{"no type", "", doc("a"), []line{{1, "", "Content-Type: must be"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(test.input), iotest.OneByteReader(strings.NewReader(test.input))} {
				got := read(r, test.media)
				require.Len(t, got, len(test.want), "%v", got)
				for i, want := range test.want {
					require.Equal(t, want.line, got[i].line, "%v", got[i])
					require.Equal(t, want.account, got[i].account, "%v", got[i])
					require.Contains(t, got[i].err, want.err)
					require.Equal(t, want.err == "", got[i].err == "", "%v", got[i])
				}
			}
		})
	}
}

func TestReadDocumentsPassesOnWhatTheReaderFailsWith(t *testing.T) {
	t.Parallel()
	broken := errors.New("the line is dead")
	for media, input := range map[string]string{"application/json": "[" + doc("a") + ",", "application/x-ndjson": doc("a") + "\n{"} {
		var last policies.DocumentLine
		n := 0
		for d := range policies.ReadDocuments(io.MultiReader(strings.NewReader(input), iotest.ErrReader(broken)), media) {
			last = d
			n++
		}
		require.Equal(t, 2, n, media)
		require.ErrorIs(t, last.Err, broken, media)
	}
}

// zeros is an endless line, or an endless string in an array.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func TestReadDocumentsBoundsADocument(t *testing.T) {
	t.Parallel()
	long := io.LimitReader(zeros{}, policies.MaxDocumentBytes+1)
	var tooLarge *policies.TooLargeError
	var got []policies.DocumentLine
	for d := range policies.ReadDocuments(io.MultiReader(strings.NewReader(`{"account":{"id":"big"},"x":"`), long, strings.NewReader("\n"+doc("a"))), "application/x-ndjson") {
		got = append(got, d)
	}
	require.Len(t, got, 2)
	require.ErrorAs(t, got[0].Err, &tooLarge)
	require.NoError(t, got[1].Err)
	require.Equal(t, 2, got[1].Line)

	n := 0
	for d := range policies.ReadDocuments(io.MultiReader(strings.NewReader("["+doc("a")+`,"`), zeros{}), "application/json") {
		if n++; n == 2 {
			require.ErrorAs(t, d.Err, &tooLarge)
		}
	}
	require.Equal(t, 2, n)
}

func TestReadDocumentsCanBeBrokenOff(t *testing.T) {
	t.Parallel()
	for _, media := range []string{"application/json", "application/x-ndjson"} {
		input := doc("a") + "\n" + doc("b")
		if media == "application/json" {
			input = "[" + doc("a") + "," + doc("b") + "]"
		}
		n := 0
		for range policies.ReadDocuments(strings.NewReader(input), media) {
			n++
			break
		}
		require.Equal(t, 1, n)
	}
}
