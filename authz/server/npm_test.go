package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// npmRequest is a request as npm's @open-policy-agent/opa 2.0.0 sent it under Node 20
// (its `evaluate` and `evaluateBatch`), recorded on the wire: the order and the case of
// the headers are its own, and so is the empty cookie.
func npmRequest(method, path, token, body string) string {
	var r strings.Builder
	fmt.Fprintf(&r, "%s %s HTTP/1.1\r\nhost: 127.0.0.1:8181\r\nconnection: keep-alive\r\n", method, path)
	if method == http.MethodPost {
		r.WriteString("Content-Type: application/json\r\n")
	}
	r.WriteString("Accept: application/json\r\ncookie: \r\n" +
		"user-agent: speakeasy-sdk/typescript 1.7.10 2.578.0 0.2.0 @open-policy-agent/opa\r\n")
	fmt.Fprintf(&r, "authorization: Bearer %s\r\naccept-language: *\r\nsec-fetch-mode: cors\r\naccept-encoding: gzip, deflate\r\n", token)
	if method == http.MethodPost {
		fmt.Fprintf(&r, "content-length: %d\r\n", len(body))
	}
	return r.String() + "\r\n" + body
}

// TestDataForTheNpmClient: over one connection, as its fetch keeps it, the client gets
// what its code reads: `result`; without an input a denial; nothing where a document is
// undefined; a status for its error where there is no answer; and a 404 for its batches,
// upon which it asks one by one where it was told to fall back.
func TestDataForTheNpmClient(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(door.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	answers := bufio.NewReader(conn)
	const question = `{` + mia + `,"action":{"name":"acme.Say"},` + onE + `}`
	const input = `{"input":` + question + `}`
	for name, c := range map[string]struct {
		request string
		status  int
		result  string
	}{
		"evaluate allow":    {npmRequest("POST", "/v1/data/usher/authz/allow", door.token, input), 200, `true`},
		"evaluate decision": {npmRequest("POST", "/v1/data/usher/authz/decision", door.token, input), 200, string(door.post(t, "/access/v1/evaluation", question).body)},
		"without an input":  {npmRequest("GET", "/v1/data/usher/authz/allow", door.token, ""), 200, `false`},
		"undefined":         {npmRequest("POST", "/v1/data/usher/authz/other", door.token, input), 200, ``},
		"another token":     {npmRequest("POST", "/v1/data/usher/authz/allow", strangerToken, input), 401, ``},
		"not there yet":     {npmRequest("POST", "/v1/data/usher/authz/allow", door.token, input[:len(input)-2]+`,"context":{"min_revision":8}}}`), 503, ``},
		"evaluateBatch":     {npmRequest("POST", "/v1/batch/data/usher/authz/allow", door.token, `{"inputs":{"a":`+question+`,"b":`+question+`}}`), 404, ``},
	} {
		_, err := io.WriteString(conn, c.request)
		require.NoError(t, err, name)
		got, err := http.ReadResponse(answers, nil)
		require.NoError(t, err, name)
		body, err := io.ReadAll(got.Body)
		require.NoError(t, err, name)
		require.Equal(t, c.status, got.StatusCode, "%s: %s", name, body)
		require.Empty(t, got.Header.Get("Content-Encoding"), name)
		if c.status != http.StatusOK {
			continue
		}
		require.Equal(t, "application/json", got.Header.Get("Content-Type"), name)
		var answer dataAnswer
		require.NoError(t, json.Unmarshal(body, &answer), name)
		require.Equal(t, c.result, string(answer.Result), name)
	}
}
