package policies_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// requireTyped: every error is of a kind that callers know, and short.
func requireTyped(t *testing.T, err error) {
	t.Helper()
	_, malformed := errors.AsType[*policies.MalformedError](err)
	_, invalid := errors.AsType[*policies.InvalidError](err)
	_, tooLarge := errors.AsType[*policies.TooLargeError](err)
	require.True(t, malformed || invalid || tooLarge, "%v", err)
	if malformed {
		require.Less(t, len(err.Error()), 2000)
	}
}

func documentSeeds(f *testing.F) []string {
	f.Helper()
	vectors, err := policiestest.Vectors()
	require.NoError(f, err)
	seeds := []string{
		"", "{}", "[]", "null", document(), "{\"\xff\": 1}", `{"account": {"id": "\ud800"}}`,
		strings.Repeat("[", 100_000), document(`"groups": ` + strings.Repeat(`[{"id":`, 100_000)),
		document(`"groups": [{"id": "` + strings.Repeat("x", 10_000) + `", "name": "` + strings.Repeat("\u202e", 500) + `"}]`),
		document(`"groups": [{"id": "a", "name": "a", "parent": "b"}, {"id": "b", "name": "b", "parent": "a"}]`),
		document(`"members": [{"account": {"id": null, "email": "a@b"}, "grants": [{"resource": {"type": "account", "id": "owner"}, "roles": [], "expires_at": "9999-12-31T23:59:59.9999999+00:00"}]}]`),
	}
	for _, v := range vectors {
		seeds = append(seeds, string(v.Import))
	}
	for seed := range uint64(5) {
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		require.NoError(f, err)
		imports, err := world.Imports(dice)
		require.NoError(f, err)
		for _, data := range imports {
			seeds = append(seeds, string(data))
		}
	}
	return seeds
}

// FuzzDecodeDocument: no input panics; what is taken is valid, and comes back
// the same.
func FuzzDecodeDocument(f *testing.F) {
	for _, seed := range documentSeeds(f) {
		f.Add([]byte(seed))
	}
	catalogue := index(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := policies.DecodeDocument(data, policies.WithCatalogue(catalogue))
		if err != nil {
			requireTyped(t, err)
			return
		}
		require.NoError(t, policies.ValidateDocument(d, catalogue))
		encoded, err := policies.EncodeDocument(d)
		require.NoError(t, err)
		again, err := policies.DecodeDocument(encoded, policies.WithCatalogue(catalogue))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(d, again))
	})
}

// FuzzReadDocuments: no import panics, lines grow, and errors are typed.
func FuzzReadDocuments(f *testing.F) {
	for _, seed := range documentSeeds(f) {
		f.Add([]byte(seed), true)
		f.Add([]byte("["+seed+",\n"+doc("a")+"]"), false)
		f.Add([]byte(doc("a")+"\n"+seed+"\n"+doc("b")), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, lines bool) {
		media := policies.MediaTypeJSON
		if lines {
			media = policies.MediaTypeNDJSON
		}
		last := 1
		for d := range policies.ReadDocuments(bytes.NewReader(data), media) {
			require.GreaterOrEqual(t, d.Line, last)
			require.LessOrEqual(t, d.Line, 1+bytes.Count(data, []byte("\n")))
			last = d.Line
			if d.Account != "" {
				require.True(t, policies.ValidID(d.Account))
			}
			if d.Err != nil {
				requireTyped(t, d.Err)
			}
		}
	})
}

// FuzzReadBundle: no archive panics.
func FuzzReadBundle(f *testing.F) {
	good := writeBundle(f, someWorld(f, 1))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		contents, err := policies.ReadBundle(bytes.NewReader(data))
		if err != nil {
			requireTyped(t, err)
			return
		}
		requireReadable(t, contents)
	})
}

// FuzzBundleData: no data.json in an otherwise good bundle panics, and what is
// taken can be read to the end.
func FuzzBundleData(f *testing.F) {
	files := unpack(f, writeBundle(f, someWorld(f, 1)))
	f.Add(files["/data.json"])
	f.Add([]byte(`{"usher": {"revision": 7, "catalogue": {}, "subjects": {}, "owners": {}, "accounts": {}}}`))
	f.Add([]byte(`{"usher": {"accounts": {"a": {"actions": null, "groups": {"g": {"ancestors": ["g"]}}}}}}`))
	f.Add([]byte(strings.Repeat(`{"usher":`, 100_000)))
	f.Add([]byte(`{"usher": {"accounts": {"a": ` + strings.Repeat("[", 100_000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		altered := maps.Clone(files)
		altered["/data.json"] = data
		contents, err := policies.ReadBundle(bytes.NewReader(pack(t, altered)))
		if err != nil {
			requireTyped(t, err)
			return
		}
		requireReadable(t, contents)
	})
}

func requireReadable(t *testing.T, contents *policies.BundleContents) {
	t.Helper()
	for _, err := range contents.Objects() {
		require.NoError(t, err)
	}
	n := 0
	for range contents.Accounts() {
		n++
	}
	require.NoError(t, policies.WriteBundle(new(bytes.Buffer), contents))
}
