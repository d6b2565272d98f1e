package pgserver

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// repository serves an archive of programs as Maven's repository does;
// testdata/programs.txz holds shell scripts by the names of PostgreSQL's programs.
func repository(t *testing.T) *httptest.Server {
	t.Helper()
	txz, err := os.ReadFile(filepath.Join("testdata", "programs.txz"))
	require.NoError(t, err)
	var jar bytes.Buffer
	archive := zip.NewWriter(&jar)
	entry, err := archive.Create("postgres-linux-x86_64.txz")
	require.NoError(t, err)
	_, err = entry.Write(txz)
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			sum := sha256.Sum256(jar.Bytes())
			_, _ = w.Write([]byte(hex.EncodeToString(sum[:])))
			return
		}
		_, _ = w.Write(jar.Bytes())
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return server
}

func TestFetchUnpacksOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	server := repository(t)
	bin, err := fetch(t.Context(), dir, server.URL)
	require.NoError(t, err)
	require.True(t, complete(bin))
	server.Close()
	again, err := fetch(t.Context(), dir, server.URL)
	require.NoError(t, err, "the second time nothing is fetched")
	require.Equal(t, bin, again)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "the programs and the archive, no scratch: %v", entries)
}

func TestFetchWithoutTheRepositorySaysWhatToDo(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := fetch(t.Context(), t.TempDir(), server.URL)
	require.ErrorContains(t, err, "install PostgreSQL 15 or later")
	require.NotContains(t, err.Error(), "\n")
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestMajor(t *testing.T) {
	require.Equal(t, 15, major("/usr/lib/postgresql/15/bin"))
	require.Equal(t, 17, major("/opt/homebrew/opt/postgresql@17/bin"))
	require.Equal(t, 0, major("/usr/bin"))
}
