package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

type bundleCommand struct {
	Build bundleBuildCommand `cmd:"" help:"Write the present state as an OPA bundle to a file."`
}

type bundleBuildCommand struct {
	adminAccess `embed:""`

	Output string `default:"usher.tar.gz" help:"The file to write; it is replaced at once or not at all." short:"o"`

	signingKeys `embed:""`
}

// Help is shown by --help below the options.
func (*bundleBuildCommand) Help() string {
	return "The token needs the scope bundles. Without a key of its own the bundle is signed as the admin server signs. " +
		"Look into the bundle with: opa inspect usher.tar.gz"
}

// Run downloads the bundle that the admin server builds.
func (c *bundleBuildCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	resp, err := admin.do(ctx, http.MethodGet, "/v1/bundles/usher.tar.gz", "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	from := io.Reader(resp.Body)
	signer, err := c.signer()
	if err != nil {
		return err
	}
	if key := signer.First(); key != nil {
		if from, err = sign(from, key); err != nil {
			return err
		}
	}
	size, err := writeFile(c.Output, from)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: %s\n", c.Output, humanize.IBytes(uint64(size)))
	return err
}

// sign is the bundle of r, signed anew.
func sign(r io.Reader, key *signing.Key) (io.Reader, error) {
	contents, err := policies.ReadBundle(r)
	if err != nil {
		return nil, fmt.Errorf("the admin server's bundle: %w", err)
	}
	var signed bytes.Buffer
	return &signed, policies.WriteSignedBundle(&signed, contents, key)
}

// writeFile writes r to path by rename, so that nobody sees half a file.
func writeFile(path string, r io.Reader) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return 0, fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	size, err := io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return size, nil
}
