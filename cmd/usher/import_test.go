package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadDocuments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in, contentType, sent string
		lines                 []int
	}{
		"an array":                 {" [\n{} ]\n", typeJSON, " [\n{} ]\n", nil},
		"one a line":               {"{\"a\":1}\n{\"b\":2}\n", typeNDJSON, "{\"a\":1}\n{\"b\":2}\n", nil},
		"one without an end":       {`{"a": 1}`, typeNDJSON, `{"a": 1}`, nil},
		"over several lines":       {"\n{\n \"a\": 1\n}\n\n{\n \"b\": [ 2 ]}\n", typeNDJSON, "{\"a\":1}\n{\"b\":[2]}\n", []int{2, 6}},
		"broken lines go through":  {"{]\n{\"b\":2}\n", typeNDJSON, "{]\n{\"b\":2}\n", nil},
		"duplicates are no matter": {"{\n\"a\":1,\"a\":2}", typeNDJSON, "{\"a\":1,\"a\":2}\n", []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := readDocuments(strings.NewReader(c.in), int64(len(c.in)))
			require.NoError(t, err)
			sent, err := io.ReadAll(d.body)
			require.NoError(t, err)
			require.Equal(t, c.contentType, d.contentType)
			require.Equal(t, c.sent, string(sent))
			require.Equal(t, int64(len(c.sent)), d.size)
			require.Equal(t, c.lines, d.lines)
		})
	}
	_, err := readDocuments(strings.NewReader(" \n"), 2)
	require.ErrorContains(t, err, "it is empty")
	_, err = readDocuments(strings.NewReader("{\n\"a\": 1,\n]"), 11)
	require.ErrorContains(t, err, "line 3")
}

func TestImportNamesFileLines(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Usher-Revision", "42")
		_, _ = io.WriteString(w, `{"imported": ["a"], "errors": [{"line": 2, "account": "b", "errors": [{"field": "roles[0].name", "reason": "is empty"}]}]}`)
	}))
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "accounts.json")
	require.NoError(t, os.WriteFile(path, []byte("{\n\"a\": 1\n}\n{\n\"b\": 2\n}\n"), 0o600))
	code, stdout, stderr := run(t, nil, "import", "--admin-url", s.URL, path)
	require.Equal(t, 1, code)
	require.Equal(t, "imported 1, revision 42\n", stdout)
	require.Equal(t, path+":4: account \"b\": roles[0].name is empty\n"+
		"usher: 1 of 2 documents were refused: mend them and import them again\n", stderr)
}
