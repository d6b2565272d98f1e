package feed

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The quick way through an object frame takes what the general one takes, and gives the
// same; what it does not take, the general one tells about.
func TestObjectsAreReadAlike(t *testing.T) {
	t.Parallel()
	quick := 0
	var known objectReader
	for _, line := range []string{
		`{"type":"object","kind":"account","id":"a","body":{}}`,
		`{"type":"object","kind":"grant","owner":"a","id":"m/account/a","body":{"expires_at":null,"roles":["r"]}}`,
		`{"type":"object","kind":"grant","owner":"a","id":"m/group/g","body":{"expires_at":null,"roles":["r"]}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{"name":"Bücher \"und\" }}","policies":[],"receive_load_alerts":true}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{"name":"` + strings.Repeat("x", maxKnownBody) + `"}}`,
		`{"type":"object","kind":"role","owner":"","id":"r","body":{}}`,
		`{"type":"object","kind":"r\u006fle","owner":"b","id":"r","body":{}}`,
		`{"type":"object","kind":"role","owner":"ö","id":"r","body":{}}`,
		`{"type":"object","id":"r","kind":"role","owner":"b","body":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{} }`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body": {}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{},"later":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{},"body":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{"a":1,"a":2}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{"a":"` + "\xff" + `"}}`,
		`{"type":"object","kind":"role","owner":"` + "\xff" + `","id":"r","body":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"` + "\t" + `","body":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{}}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":{x}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r","body":null}`,
		`{"type":"object","kind":"","owner":"b","id":"r","body":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"","body":{}}`,
		`{"type":"object","kind":"role","owner":"b","id":"r`,
	} {
		want, err := decodeFrame(TypeObject, []byte(line))
		for range 2 { // the second time of what it knows
			buffer := []byte(line)
			got, ok := known.read(buffer)
			clear(buffer) // nothing of it is kept
			if ok {
				quick++
				require.NoError(t, err, line)
				require.Equal(t, want, Frame(got), line)
			}
		}
	}
	require.Equal(t, 2*6, quick)
}
