package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

type adminAccess struct {
	AdminURL string `help:"The admin server, e.g. http://127.0.0.1:8080." placeholder:"URL"`
	Token    string `help:"A service token."                              placeholder:"TOKEN"`
}

type exportCommand struct {
	adminAccess `embed:""`

	Account string `arg:"" help:"The account's id."`
	Output  string `help:"The file to write instead of the standard output." placeholder:"FILE" short:"o"`
}

// Help is shown by --help below the options.
func (*exportCommand) Help() string {
	return "The token needs the scope resources. `usher import` takes the document back."
}

// Run prints the document as the server gives it.
func (c *exportCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	resp, err := admin.do(ctx, http.MethodGet, "/v1/accounts/"+url.PathEscape(c.Account)+"/export", "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	terminal := p.Stderr
	if c.Output == "" && onTerminal(p.Stdout) {
		terminal = io.Discard // the document itself is what is seen
	}
	bar := newProgress(terminal, resp.ContentLength, "export")
	body := bar.reader(resp.Body)
	defer bar.done()
	if c.Output != "" {
		_, err = writeFile(c.Output, body)
		return err
	}
	if _, err := io.Copy(p.Stdout, body); err != nil {
		return fmt.Errorf("print the document: %w", err)
	}
	return nil
}
