package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/admin/anchor"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

type auditCommand struct {
	Verify auditVerifyCommand `cmd:"" help:"Walk the change log and tell whether it is as it was written. Exit code 0: it is, 1: it is not, 2: error."`
	Anchor auditAnchorCommand `cmd:"" help:"Print a signed head of the change log, to be kept elsewhere."`
	Erase  auditEraseCommand  `cmd:"" help:"Erase the data of a person whose account was deleted; the chain of hashes holds."`
}

// openToLook opens the store without ever writing.
func (d database) openToLook(ctx context.Context) (*store.Store, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{URL: d.DatabaseURL, ReadOnly: true})
}

type auditAnchorCommand struct {
	database `embed:""`

	SigningKeyFile string `help:"The private key, as usher keys create makes it." placeholder:"FILE"`
}

// Help is shown by --help below the options.
func (*auditAnchorCommand) Help() string {
	return "Keep what it prints where nobody who can write to the database can change it, e.g.\n" +
		"usher audit anchor --signing-key-file audit.key >> anchors.jsonl"
}

// Run prints one line.
func (c *auditAnchorCommand) Run(ctx context.Context, p *Process) error {
	if c.SigningKeyFile == "" {
		return missing("signing-key-file", "`usher keys create` makes one")
	}
	text, err := os.ReadFile(c.SigningKeyFile)
	if err != nil {
		return fmt.Errorf("read the signing key: %w", err)
	}
	key, err := signing.ParseKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.SigningKeyFile, err)
	}
	signer, err := signing.NewSigner(key)
	if err != nil {
		return err
	}
	s, err := c.openToLook(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	return anchor.Write(p.Stdout, head, signer)
}

type auditVerifyCommand struct {
	database `embed:""`

	Anchor              []string `help:"Signed heads kept elsewhere, one a line; repeat it for several files." placeholder:"FILE or URL"`
	VerificationKeyFile []string `help:"The public key of the anchors; repeat it for several."           placeholder:"FILE"`
	State               bool     `help:"Rebuild the state from the log, and hold the tables against it."`
	Output              string   `default:"text" enum:"text,json" help:"How the finding is printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*auditVerifyCommand) Help() string {
	return "Exit code: 0 the log is as it was written, 1 it is not, 2 error.\n\n" +
		"The role needs to read usher_schema, platform, policies_in_force, revisions and changes; nothing is written. With --state it " +
		"reads all tables, and names the first row that is not what the log last wrote. " +
		"Without --anchor, a log that was written anew from some point to its end cannot be told from a true one."
}

// finding is what is printed as JSON.
type finding struct {
	Sound     bool   `json:"sound"`
	Platform  string `json:"platform"`
	Revision  uint64 `json:"revision"`
	Hash      string `json:"hash"`
	Revisions uint64 `json:"revisions"`
	Entries   uint64 `json:"entries"`
	Erased    uint64 `json:"erased"`
	Anchors   int    `json:"anchors"`
	Broken    *link  `json:"broken,omitzero"`
	State     *state `json:"state,omitzero"`
}

// state is what is printed of the tables.
type state struct {
	Revision uint64 `json:"revision"`
	Objects  uint64 `json:"objects"`
	Differs  string `json:"differs,omitzero"`
}

type link struct {
	Revision uint64 `json:"revision"`
	Entry    *int   `json:"entry,omitzero"`
	Kind     string `json:"kind,omitzero"`
	ID       string `json:"id,omitzero"`
	What     string `json:"what"`
}

// Run verifies, and prints what it found; a broken log is an exitError without a
// message.
func (c *auditVerifyCommand) Run(ctx context.Context, p *Process) error {
	heads, err := c.heads(ctx)
	if err != nil {
		return &exitError{Code: 2, Err: err}
	}
	s, err := c.openToLook(ctx)
	if err != nil {
		return &exitError{Code: 2, Err: err}
	}
	defer s.Close()
	bar := newCount(p.Stderr, "verify")
	report, err := s.Verify(ctx, store.VerifyOptions{Heads: heads, Progress: bar.at})
	bar.done()
	var tables *state
	if err == nil && c.State && report.Broken == nil {
		tables, err = verifyState(ctx, s)
	}
	if err == nil {
		err = c.print(p.Stdout, report, tables, len(heads))
	}
	switch {
	case err != nil:
		return &exitError{Code: 2, Err: err}
	case report.Broken != nil, tables != nil && tables.Differs != "":
		return &exitError{Code: 1}
	}
	return nil
}

// verifyState holds the tables against the log.
func verifyState(ctx context.Context, s *store.Store) (*state, error) {
	report, err := s.VerifyState(ctx)
	if err != nil {
		return nil, err
	}
	found := &state{Revision: uint64(report.Revision), Objects: report.Objects}
	if report.Differs != nil {
		found.Differs = report.Differs.String()
	}
	return found, nil
}

func (c *auditVerifyCommand) print(w io.Writer, r store.VerifyReport, tables *state, anchors int) error {
	if c.Output == "json" {
		f := finding{
			State: tables, Sound: r.Broken == nil && (tables == nil || tables.Differs == ""), Platform: r.Platform,
			Revision: uint64(r.Revision), Hash: r.Hash.String(),
			Revisions: r.Revisions, Entries: r.Entries, Erased: r.Erased, Anchors: anchors,
		}
		if b := r.Broken; b != nil {
			f.Broken = &link{Revision: uint64(b.Revision), Kind: string(b.Kind), ID: b.ID, What: b.What}
			if b.Entry >= 0 {
				f.Broken.Entry = &b.Entry
			}
		}
		data, err := json.Marshal(f)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, string(data))
		return err
	}
	if r.Broken != nil {
		_, err := fmt.Fprintf(w, "broken: %s\nsound up to revision %d, hash %s\n", r.Broken, r.Revision, r.Hash)
		return err
	}
	_, err := fmt.Fprintf(w, "sound: %d revisions with %d entries, up to revision %d, hash %s\nanchors passed: %d; data of persons erased in: %d\n",
		r.Revisions, r.Entries, r.Revision, r.Hash, anchors, r.Erased)
	if err != nil || tables == nil {
		return err
	}
	if tables.Differs != "" {
		_, err = fmt.Fprintf(w, "state: the tables are not what the log says: %s\n", tables.Differs)
		return err
	}
	_, err = fmt.Fprintf(w, "state: the tables are what the log says, %d objects at revision %d\n", tables.Objects, tables.Revision)
	return err
}

// heads reads and verifies the anchors.
func (c *auditVerifyCommand) heads(ctx context.Context) ([]store.Header, error) {
	if len(c.Anchor) == 0 {
		return nil, nil
	}
	if len(c.VerificationKeyFile) == 0 {
		return nil, missing("verification-key-file", "the public key that belongs to the anchors")
	}
	keys := make([]*signing.PublicKey, 0, len(c.VerificationKeyFile))
	for _, file := range c.VerificationKeyFile {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the verification key: %w", err)
		}
		key, err := signing.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, key)
	}
	verifier, err := signing.NewVerifier(keys...)
	if err != nil {
		return nil, err
	}
	var all []store.Header
	for _, from := range c.Anchor {
		found, err := readAnchors(ctx, from, verifier)
		if err != nil {
			return nil, fmt.Errorf("--anchor %s: %w", from, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// readAnchors reads a file, or what a URL answers with.
func readAnchors(ctx context.Context, from string, verifier *signing.Verifier) ([]store.Header, error) {
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		f, err := os.Open(from)
		if err != nil {
			return nil, errors.Unwrap(err) // the name is told already
		}
		defer func() { _ = f.Close() }()
		return anchor.Read(f, verifier)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := (&client{base: from, http: &http.Client{}}).do(ctx, http.MethodGet, "", "", nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return anchor.Read(resp.Body, verifier)
}

type auditEraseCommand struct {
	database `embed:""`

	Account string `arg:"" help:"The deleted account's id."`
}

// Help is shown by --help below the options.
func (*auditEraseCommand) Help() string {
	return "Emails, names and network addresses of the account go from the change log and from the records of ended collaborations. " +
		"What was done stays, by the account's id. Connect as the role that the schema belongs to. It cannot be undone."
}

// Run erases.
func (c *auditEraseCommand) Run(ctx context.Context, p *Process) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	done, err := s.Erase(ctx, store.Call{Actor: local}, policies.AccountID(c.Account))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "erased from %d entries and %d network addresses, revision %d\n", done.Entries, done.Addresses, done.Revision)
	return err
}
