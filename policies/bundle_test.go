package policies_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/rego"
)

// someWorld is a random world as a platform at revision 7.
func someWorld(tb testing.TB, seed uint64) policies.PlatformData {
	tb.Helper()
	world, err := policiestest.NewWorld(policiestest.SeededDice(seed), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	require.NoError(tb, err)
	return platformOf(tb, world.Documents...)
}

func platformOf(tb testing.TB, documents ...policies.Document) policies.PlatformData {
	tb.Helper()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(tb, err)
	policy, err := policies.NewPolicyInForce(catalogue, rego.Modules())
	require.NoError(tb, err)
	platform, err := policiestest.NewDocumentsPlatform(7, policy, documents...)
	require.NoError(tb, err)
	return platform
}

func writeBundle(tb testing.TB, p policies.PlatformData) []byte {
	tb.Helper()
	var archive bytes.Buffer
	require.NoError(tb, policies.WriteBundle(&archive, p))
	return archive.Bytes()
}

// unpack is what the standard library finds in a bundle.
func unpack(tb testing.TB, archive []byte) map[string][]byte {
	tb.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(tb, err)
	files := map[string][]byte{}
	for tr := tar.NewReader(zr); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, zr)
			require.NoError(tb, err)
			return files
		}
		require.NoError(tb, err)
		files[header.Name], err = io.ReadAll(tr)
		require.NoError(tb, err)
	}
}

// pack makes an archive of files, sorted by name.
func pack(tb testing.TB, files map[string][]byte) []byte {
	tb.Helper()
	var archive bytes.Buffer
	zw := gzip.NewWriter(&archive)
	tw := tar.NewWriter(zw)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		require.NoError(tb, tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(files[name])), Mode: 0o644}))
		_, err := tw.Write(files[name])
		require.NoError(tb, err)
	}
	require.NoError(tb, tw.Close())
	require.NoError(tb, zw.Close())
	return archive.Bytes()
}

func vectorDocument(tb testing.TB, name string) policies.Document {
	tb.Helper()
	vectors, err := policiestest.Vectors()
	require.NoError(tb, err)
	for _, v := range vectors {
		if v.Name == name {
			return v.Document
		}
	}
	require.Fail(tb, "no such vector", name)
	return policies.Document{}
}

// TestBundleLayout: the files, and data that say what design and Rego agreed on.
func TestBundleLayout(t *testing.T) {
	t.Parallel()
	d := vectorDocument(t, "expired grants are absent")
	files := unpack(t, writeBundle(t, platformOf(t, d)))
	require.Contains(t, files, "/usher/authz/decision.rego")
	require.Regexp(t, `^\{"metadata":\{"platform":"documents","policy_digest":"[0-9a-f]{64}"\},"rego_version":1,"revision":"7","roots":\["usher"\]\}$`, string(files["/.manifest"]))
	data := string(files["/data.json"])
	require.Contains(t, data, `"subjects":{"mia":true,"owner":true}`)
	require.Contains(t, data, `"owners":{"account":{"mia":"mia","owner":"owner"},"environment":{"e1":"owner","e2":"owner"},"environments":{"mia":"mia","owner":"owner"},`+
		`"group":{"a":"owner","b":"owner"},"groups":{"mia":"mia","owner":"owner"}}`)
	require.Contains(t, data, `"accounts":{"owner":{"actions":{},"environments":{"e1":{"groups":["b"]},"e2":{"groups":["b"]}},"groups":{"a":{"ancestors":[]},"b":{"ancestors":["a"]}},"members":{`)
	require.Contains(t, data, `"environment":{"e1":{"expires_at":"2001-01-01T00:00:00Z","expires_at_ns":978307200000000000,"roles":["r-viewer"]},`+
		`"e2":{"expires_at":"2999-01-01T00:00:00Z","expires_at_ns":32472144000000000000,"roles":["r-viewer"]}},"group":{"a":{"roles":["r-admin"]},`)
	require.NotContains(t, data, "example.com", "no emails")
	require.NotContains(t, data, "Owner", "no names of persons")
}

// TestBundleIsOPAs: OPA reads the bundle as one of its own.
func TestBundleIsOPAs(t *testing.T) {
	t.Parallel()
	b, err := bundle.NewReader(bytes.NewReader(writeBundle(t, someWorld(t, 3)))).Read()
	require.NoError(t, err)
	require.Equal(t, "7", b.Manifest.Revision)
	require.Equal(t, []string{"usher"}, *b.Manifest.Roots)
	require.Equal(t, "documents", b.Manifest.Metadata["platform"])
	require.Len(t, b.Modules, len(rego.Modules()))
}

func TestReadBundleRefuses(t *testing.T) {
	t.Parallel()
	good := unpack(t, writeBundle(t, platformOf(t,
		vectorDocument(t, "expired grants are absent"))))
	replace := func(file, old, by string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			require.Contains(t, string(files[file]), old)
			files[file] = bytes.Replace(files[file], []byte(old), []byte(by), 1)
		}
	}
	data := func(old, by string) func(map[string][]byte) { return replace("/data.json", old, by) }
	for _, test := range []struct {
		name   string
		alter  func(map[string][]byte)
		reason string
	}{
		{"no manifest", func(f map[string][]byte) { delete(f, "/.manifest") }, "/.manifest: is missing"},
		{"no catalogue", func(f map[string][]byte) { delete(f, "/catalogue.json") }, "/catalogue.json: is missing"},
		{"no data", func(f map[string][]byte) { delete(f, "/data.json") }, "/data.json: is missing"},
		{"other Rego", replace("/usher/authz/decision.rego", "granted", "Granted"), "another policy digest"},
		{"a Rego too few", func(f map[string][]byte) { delete(f, "/usher/authz/decision.rego") }, "another policy digest"},
		{"another file", func(f map[string][]byte) { f["/x"] = nil }, "/x: does not belong"},
		{"other catalogue", replace("/catalogue.json", "environment.control.StartEnv", "environment.control.StopEnv"), "another policy digest"},
		{"bad catalogue", replace("/catalogue.json", `"policies"`, `"x"`), "/catalogue.json/x: is not a known field"},
		{"bad manifest", replace("/.manifest", `"revision"`, `"rev"`), "/.manifest/rev: is not a known field"},
		{"other revision", replace("/.manifest", `"7"`, `"8"`), "another revision"},
		{"other roots", replace("/.manifest", `["usher"]`, `[""]`), "other roots"},
		{"data outside", data(`{"usher"`, `{"x":1,"usher"`), "/data.json/x: is outside"},
		{"data that are not JSON", data(`{"usher"`, `{usher`), "/data.json: is not valid JSON"},
		{"cut off data", func(f map[string][]byte) { f["/data.json"] = f["/data.json"][:100] }, "is not valid JSON: unexpected EOF"},
		{"more data", func(f map[string][]byte) { f["/data.json"] = append(f["/data.json"], '1') }, "after its end"},
		{"unknown part", data(`"revision"`, `"x":1,"revision"`), "/data.json/usher/x: is not a known field"},
		{"part that is missing", data(`"revision":7,`, ``), "/data.json/usher/revision: is missing"},
		{"revision", data(`"revision":7`, `"revision":7.5`), "a revision is a whole number"},
		{"other actions of the catalogue", data(`"environment.control.StartEnv":true`, `"environment.control.Start":true`), "/catalogue: is not that of catalogue.json"},
		{"subject false", data(`"mia":true`, `"mia":false`), "not true"},
		{"owner that is no subject", data(`"owner":true`, `"owner2":true`), "not among the subjects"},
		{"environment of another owner", data(`"e1":"owner"`, `"e1":"mia"`), "/owners/environment: does not agree"},
		{"group that nobody has", data(`"a":"owner"`, `"a":"owner","x":"owner"`), "/owners/group: does not agree"},
		{"category", data(`"mia":"mia"`, `"mia":"owner"`), "/owners/account: does not agree"},
		{"type", data(`"account":{"mia"`, `"planet":{},"account":{"mia"`), "/owners: has types"},
		{"status", data(`"status":"active"`, `"status":"Active"`), `unknown status "Active"`},
		{"grant on another's", data(`"environment":{"e1":{"expires_at"`, `"environment":{"e7":{"expires_at"`), `grant on "environment:e7"`},
		{"grant without roles", data(`"roles":["r-viewer"]`, `"roles":[]`), "has no roles"},
		{"grant of an unknown role", data(`"roles":["r-viewer"]`, `"roles":["r-x"]`), `unknown role "r-x"`},
		{"two ends", data(`"expires_at_ns":978307200000000000`, `"expires_at_ns":978307200000000001`), "two different ones"},
		{"one end", data(`,"expires_at_ns":978307200000000000`, ``), "two different ones"},
		{"ancestors", data(`{"ancestors":["a"]}`, `{"ancestors":["b"]}`), "other ancestors"},
		{"unknown ancestor", data(`{"ancestors":["a"]}`, `{"ancestors":["z"]}`), "other ancestors"},
		{"unknown group", data(`{"groups":["b"]}`, `{"groups":["c"]}`), `environment "e1"`},
		{"action of no policy", data(`"owner":{"actions":{}`, `"owner":{"actions":{"x":true}`), "other actions"},
		{"unknown policy", data(`"policies":["account.billing"]`, `"policies":["nothing.known"]`), `policy "nothing.known"`},
		{"owner as member", data(`"members":{"mia"`, `"members":{"owner"`), `member "owner"`},
		{"deep", data(`"members":{"mia"`, `"members":`+strings.Repeat(`{"mia":`, 100_000)), "/data.json/usher/accounts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(good)
			for name, content := range files {
				files[name] = bytes.Clone(content)
			}
			test.alter(files)
			_, err := policies.ReadBundle(bytes.NewReader(pack(t, files)))
			var malformed *policies.MalformedError
			require.ErrorAs(t, err, &malformed)
			require.Contains(t, err.Error(), test.reason)
		})
	}
	_, err := policies.ReadBundle(bytes.NewReader(pack(t, good)))
	require.NoError(t, err)
}

// TestReadBundleOfABrokenArchive: cut off or altered anywhere, it is refused.
func TestReadBundleOfABrokenArchive(t *testing.T) {
	t.Parallel()
	good := writeBundle(t, platformOf(t, vectorDocument(t, "owner")))
	var malformed *policies.MalformedError
	for cut := 0; cut < len(good); cut += 1 + len(good)/300 {
		_, err := policies.ReadBundle(bytes.NewReader(good[:cut]))
		require.ErrorAs(t, err, &malformed, "cut at %d of %d", cut, len(good))
	}
	for at := 10; at < len(good); at += 1 + len(good)/300 {
		altered := bytes.Clone(good)
		altered[at] ^= 0x10
		contents, err := policies.ReadBundle(bytes.NewReader(altered))
		if err == nil { // a byte of a gzip header that means nothing
			requireReadable(t, contents)
			continue
		}
		requireTyped(t, err)
	}
}

func TestReadBundlePassesOnWhatTheReaderFailsWith(t *testing.T) {
	t.Parallel()
	good := writeBundle(t, platformOf(t, vectorDocument(t, "owner")))
	broken := fmt.Errorf("the disk is dead")
	_, err := policies.ReadBundle(io.MultiReader(bytes.NewReader(good[:len(good)/2]), errReader{broken}))
	require.ErrorIs(t, err, broken)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestReadBundleIsBounded: a small archive of a huge file is refused before it is
// read.
func TestReadBundleIsBounded(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	zw := gzip.NewWriter(&archive)
	tw := tar.NewWriter(zw)
	require.NoError(t, tw.WriteHeader(&tar.Header{Name: "/data.json", Typeflag: tar.TypeReg, Size: policies.MaxBundleFileBytes + 1}))
	require.NoError(t, zw.Close())
	_, err := policies.ReadBundle(&archive)
	var tooLarge *policies.TooLargeError
	require.ErrorAs(t, err, &tooLarge)
}
