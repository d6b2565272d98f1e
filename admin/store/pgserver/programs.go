package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// oldest is the first major version of PostgreSQL that usher works with.
const oldest = 15

// FindPrograms is the directory of PostgreSQL's server programs (initdb and
// postgres): from PATH, or the newest of /usr/lib/postgresql/*/bin and its like on
// other systems; where the machine has none they are fetched, once, into a cache.
func FindPrograms(ctx context.Context, log *slog.Logger) (string, error) {
	if bin, ok := installed(); ok {
		return bin, nil
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	log.InfoContext(ctx, "this machine has no PostgreSQL: fetching one", "into", cache)
	return fetch(ctx, cache, "")
}

func installed() (string, bool) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(path)) {
			return filepath.Dir(path), true
		}
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                   // Debian and its kin
		"/usr/pgsql-*/bin",                            // PostgreSQL's own RPMs
		"/opt/homebrew/opt/postgresql@*/bin",          // Homebrew
		"/usr/local/opt/postgresql@*/bin",             // Homebrew on Intel
		"/Applications/Postgres.app/*/Versions/*/bin", // Postgres.app
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a bad pattern, and these are constants
		}
		for _, dir := range dirs {
			if complete(dir) && major(dir) >= oldest {
				found = append(found, dir)
			}
		}
	}
	if len(found) == 0 {
		return "", false
	}
	sort.Slice(found, func(i, j int) bool { return major(found[i]) > major(found[j]) })
	return found[0], true
}

// complete tells whether dir has the programs that we run.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// major is the greatest number in the path of an installation, which is its major
// version.
func major(dir string) int {
	best, digits := 0, ""
	for _, r := range dir + "/" {
		if r >= '0' && r <= '9' {
			digits += string(r)
			continue
		}
		if n, err := strconv.Atoi(digits); err == nil && n > best {
			best = n
		}
		digits = ""
	}
	return best
}

// cacheDir is where fetched programs stay. A root process keeps them where the
// server's user can run them: a home directory is closed to others.
func cacheDir() (string, error) {
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		return "/var/cache/usher/postgresql", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for fetched programs: %w", err)
	}
	return filepath.Join(dir, "usher", "postgresql"), nil
}

// fetch unpacks PostgreSQL's programs below dir by embedded-postgres, from
// repository (a Maven repository's URL; "" is the library's default). The library
// starts a server right after unpacking, as whoever we are, and cannot be told not
// to; so it gets a data directory on which any start fails at once, and what counts
// is whether the programs are there.
func fetch(ctx context.Context, dir, repository string) (string, error) {
	programs := filepath.Join(dir, string(embeddedpostgres.V15))
	bin := filepath.Join(programs, "bin")
	if complete(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the server's user runs what is here
		return "", fmt.Errorf("the cache for PostgreSQL's programs cannot be made: %w", err)
	}
	scratch, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", fmt.Errorf("the cache for PostgreSQL's programs is not writable: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	data := filepath.Join(scratch, "no-data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", fmt.Errorf("the cache for PostgreSQL's programs is not writable: %w", err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		return "", fmt.Errorf("the cache for PostgreSQL's programs is not writable: %w", err)
	}
	config := embeddedpostgres.DefaultConfig().Version(embeddedpostgres.V15).
		CachePath(filepath.Join(dir, "archives")).RuntimePath(filepath.Join(scratch, "runtime")).
		BinariesPath(filepath.Join(scratch, "programs")).DataPath(data).Logger(io.Discard)
	if port, err := freePort(ctx); err == nil {
		config = config.Port(uint32(port))
	}
	if repository != "" {
		config = config.BinaryRepositoryURL(repository)
	}
	result := make(chan error, 1)
	go func() { result <- embeddedpostgres.NewDatabase(config).Start() }() // takes no context; ends by itself
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !complete(filepath.Join(scratch, "programs", "bin")) {
		if err == nil {
			err = errors.New("the archive lacks them")
		}
		return "", fmt.Errorf("PostgreSQL's server programs are not on this machine and could not be fetched (%w): "+
			"install PostgreSQL %d or later (Debian: apt-get install postgresql), or put its bin directory on PATH", err, oldest)
	}
	if err := os.Chmod(filepath.Join(scratch, "programs"), 0o755); err != nil { //nolint:gosec // as above
		return "", fmt.Errorf("the fetched programs cannot be opened to the server's user: %w", err)
	}
	// Whole or not at all; another process may have been faster.
	if err := os.Rename(filepath.Join(scratch, "programs"), programs); err != nil && !complete(bin) {
		return "", fmt.Errorf("the fetched programs cannot be put in their place: %w", err)
	}
	return bin, nil
}
