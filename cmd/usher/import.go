package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

type importCommand struct {
	adminAccess `embed:""`
	waiting     `embed:""`

	File string `arg:"" help:"Account documents: one, an array, or one a line; - reads the standard input."`
}

// Help is shown by --help below the options.
func (*importCommand) Help() string {
	return "Each document replaces that account's whole collaboration, all of it or nothing. Exit code 1 if any was refused; " +
		"the others are in. The token needs the scope resources, and for --wait collaboration."
}

type importAnswer struct {
	Imported []policies.AccountID `json:"imported"`
	Errors   []importRejected     `json:"errors"`
}

type importRejected struct {
	Line    int    `json:"line"`
	Account string `json:"account"`
	Errors  []struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"errors"`
}

// Run sends the file and prints what was refused, a line for each error.
func (c *importCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	in, size, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	documents, err := readDocuments(in, size)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.File, err)
	}
	bar := newProgress(p.Stderr, documents.size, "import")
	answer, revision, err := c.send(ctx, admin, documents, bar)
	bar.done()
	if err != nil {
		return err
	}
	refused := c.report(p, documents, answer, revision)
	if revision == "" || len(answer.Imported) == 0 {
		return refused
	}
	return errors.Join(refused, c.onAdmin(ctx, admin, revision))
}

// open is the file, and its size (-1 if nobody knows).
func (c *importCommand) open(p *Process) (io.ReadCloser, int64, error) {
	if c.File == "-" {
		return io.NopCloser(p.Stdin), -1, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the documents: %w", err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, -1, nil //nolint:nilerr // a size that nobody knows is no failure
	}
	return f, info.Size(), nil
}

// send posts documents. An answer 422 with a list of refusals is an answer, not an
// error.
func (c *importCommand) send(ctx context.Context, admin *client, documents documents, bar progress) (importAnswer, string, error) {
	var answer importAnswer
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, admin.base+"/v1/import", bar.reader(documents.body))
	if err != nil {
		return answer, "", fmt.Errorf("make a request to %s: %w", admin.base, err)
	}
	req.ContentLength = documents.size
	req.Header.Set("Content-Type", documents.contentType)
	req.Header.Set("Authorization", "Bearer "+admin.token)
	resp, err := admin.http.Do(req)
	if err != nil {
		return answer, "", admin.explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer, "", fmt.Errorf("read the answer of %s: %w", admin.base, err)
	}
	var raw struct {
		Errors jsontext.Value `json:"errors"`
	}
	refused := resp.StatusCode == http.StatusUnprocessableEntity && json.Unmarshal(data, &raw) == nil
	if resp.StatusCode/100 != 2 && !refused {
		failed := &statusError{Status: resp.StatusCode, Server: admin.base}
		_ = json.Unmarshal(data, &failed.Problem) // what is no problem document has a status still
		return answer, "", failed
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, "", fmt.Errorf("%s answered with something else than JSON: %w", admin.base, err)
	}
	return answer, resp.Header.Get("Usher-Revision"), nil
}

// report prints one line for each refusal, then the count.
func (c *importCommand) report(p *Process, documents documents, answer importAnswer, revision string) error {
	var failed error
	for _, rejected := range answer.Errors {
		place := fmt.Sprintf("%s:%d", c.File, documents.line(rejected.Line))
		for _, e := range rejected.Errors {
			_, err := fmt.Fprintf(p.Stderr, "%s: account %q: %s %s\n", place, rejected.Account, e.Field, e.Reason)
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return fmt.Errorf("print the refusals: %w", failed)
	}
	line := fmt.Sprintf("imported %d", len(answer.Imported))
	if revision != "" && len(answer.Imported) > 0 {
		line += ", revision " + revision
	}
	if _, err := fmt.Fprintln(p.Stdout, line); err != nil {
		return fmt.Errorf("print the outcome: %w", err)
	}
	if n := len(answer.Errors); n > 0 {
		return fmt.Errorf("%d of %d documents were refused: mend them and import them again", n, n+len(answer.Imported))
	}
	return nil
}
