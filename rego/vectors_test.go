package rego_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// TestVectorsFile: testdata/vectors.json, which `opa test` reads, holds the
// published vectors, each world as the bundle compiler makes it. Where it does not,
// -update writes it.
func TestVectorsFile(t *testing.T) {
	t.Parallel()
	const file = "testdata/vectors.json"
	want := vectorsFile(t)
	if *update {
		require.NoError(t, os.WriteFile(file, want, 0o600))
	}
	have, err := os.ReadFile(file)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(have), "run: go test ./rego -run TestVectorsFile -update")
}

func vectorsFile(t *testing.T) []byte {
	t.Helper()
	policy, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)

	type object = map[string]any
	var worlds []object
	var common jsontext.Value // the catalogue, once for all worlds
	for _, vector := range vectors {
		platform, err := policiestest.NewDocumentsPlatform(7, policy, vector.Document)
		require.NoError(t, err)
		usher := bundleData(t, platform)
		common = usher["catalogue"]
		delete(usher, "catalogue")
		var checks []object
		for _, check := range vector.Checks {
			expected := object{
				"subject": check.Subject, "action": check.Action, "resource": check.Resource,
				"decision": check.Decision, "reason": check.Reason,
			}
			if check.Level != "" {
				expected["level"], expected["roles"] = check.Level, check.Roles
			}
			if check.Policies != nil {
				expected["policies"] = check.Policies
			}
			checks = append(checks, expected)
		}
		worlds = append(worlds, object{"name": vector.Name, "usher": usher, "checks": checks})
	}
	text, err := json.Marshal(object{"vectors": object{"catalogue": common, "worlds": worlds}},
		json.Deterministic(true), jsontext.WithIndent(" "))
	require.NoError(t, err)
	return append(text, '\n')
}

// bundleData is data.usher of the bundle of a platform.
func bundleData(t *testing.T, platform policies.PlatformData) map[string]jsontext.Value {
	t.Helper()
	var bundle bytes.Buffer
	require.NoError(t, policies.WriteBundle(&bundle, platform))
	unzipped, err := gzip.NewReader(&bundle)
	require.NoError(t, err)
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		require.NoError(t, err, "the bundle has no data.json")
		if path.Base(header.Name) != "data.json" {
			continue
		}
		text, err := io.ReadAll(files)
		require.NoError(t, err)
		var data struct {
			Usher map[string]jsontext.Value `json:"usher"`
		}
		require.NoError(t, json.Unmarshal(text, &data))
		return data.Usher
	}
}
