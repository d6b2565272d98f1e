package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz"
	authzclient "github.com/usher-authz/usher/authz/client"
	"github.com/usher-authz/usher/authz/guardrails"
	"github.com/usher-authz/usher/authz/vectors"
	"github.com/usher-authz/usher/cmd/usher/dev"
	"github.com/usher-authz/usher/policies"
)

type testCommand struct {
	Files      []string `arg:"" name:"file" help:"Expected decisions, in YAML or JSON; of a directory, all files in it."`
	Bundle     string   `help:"Ask a bundle." placeholder:"FILE"`
	Documents  string   `help:"Ask account documents: a file that import takes, or a directory of them." placeholder:"FILE|DIR"`
	URL        string   `help:"Ask a sidecar, e.g. http://127.0.0.1:8181." placeholder:"URL"`
	AdminURL   string   `help:"With --url: the admin server, which tells what roles and policies there are; the token needs the scope resources too." placeholder:"URL"`
	Token      string   `help:"A service token with the scope checks." placeholder:"TOKEN"`
	Guardrails string   `help:"Guardrails that count in worlds and with --documents: a directory of Rego." placeholder:"DIR"`
	Threshold  float64  `default:"0" help:"The least percentage of roles, and of policies, that must be exercised."`
	Output     string   `default:"text" enum:"text,json,junit" help:"How the results are printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*testCommand) Help() string {
	return "Exit code: 0 all is as expected, 1 something is not, or too little was exercised, 2 error.\n\n" +
		"A file has worlds, each an account document with checks, and checks of what --bundle, --documents or --url gives:\n\n" +
		"    checks:\n" +
		"      - {subject: gita, action: environment.control.StartEnv, resource: environment:wiki, decision: false}\n\n" +
		"Example: usher test decisions.yaml --documents accounts/ --threshold 80"
}

// test is one run.
type test struct {
	command *testCommand
	process *Process
	runner  vectors.Runner
	target  vectors.Decider // of checks without a world; nil: none was given
	files   []*vectors.File
	// unknown is why it is not known what roles and policies there are.
	unknown string
}

// Run runs all checks and prints how they went.
func (c *testCommand) Run(ctx context.Context, p *Process) error {
	given := slices.DeleteFunc([]string{c.Bundle, c.Documents, c.URL}, func(s string) bool { return s == "" })
	if len(given) > 1 {
		return errors.New("give one of --bundle, --documents and --url")
	}
	inForce, err := c.policy(ctx)
	if err != nil {
		return err
	}
	t := &test{command: c, process: p}
	if t.runner.Policy, err = authz.NewPolicy(ctx, inForce); err != nil {
		return err
	}
	index := inForce.Catalogue.Index()
	if err := t.read(index); err != nil {
		return err
	}
	if err := t.aim(ctx, index); err != nil {
		return err
	}
	for _, file := range t.files {
		for i := range file.Worlds {
			if err := t.runner.World(ctx, &file.Worlds[i]); err != nil {
				return err
			}
		}
		if len(file.Checks) > 0 && t.target == nil {
			return fmt.Errorf("%s: what shall be asked? Give --bundle, --documents or --url", file.Checks[0])
		}
		if err := t.runner.Run(ctx, t.target, file.Checks); err != nil {
			return err
		}
	}
	if c.URL != "" {
		if err := t.askWhatThereIs(ctx, index); err != nil {
			return err
		}
	}
	if err := t.print(); err != nil {
		return fmt.Errorf("print the results: %w", err)
	}
	if t.runner.Failed() > 0 || !t.enough() {
		return &exitError{Code: 1}
	}
	return nil
}

// policy is that of worlds and documents.
func (c *testCommand) policy(ctx context.Context) (policies.PolicyInForce, error) {
	inForce, err := dev.EmbeddedPolicy()
	if err != nil || c.Guardrails == "" {
		return inForce, err
	}
	if c.Bundle != "" || c.URL != "" {
		return inForce, errors.New("--guardrails is for worlds and --documents: a bundle and a sidecar have the ones in force")
	}
	sources, err := guardrails.Read(os.DirFS(c.Guardrails))
	if err == nil {
		inForce, _, err = guardrails.Build(ctx, inForce, sources)
	}
	if err != nil {
		return inForce, fmt.Errorf("--guardrails %s: %w", c.Guardrails, err)
	}
	return inForce, nil
}

// read reads all files, and reports all that is wrong with them at once.
func (t *test) read(index policies.CatalogueIndex) error {
	var errs []error
	for _, name := range t.command.Files {
		names, err := filesOf(name, ".yaml", ".yml", ".json")
		errs = append(errs, err)
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			file, err := vectors.Parse(name, data, index)
			errs = append(errs, err)
			t.files = append(t.files, file)
		}
	}
	return errors.Join(errs...)
}

// filesOf is a file, or those below a directory that have one of the extensions.
func filesOf(path string, extensions ...string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var found []string
	err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))) {
			found = append(found, path)
		}
		return err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no file with the extension %s", path, strings.Join(extensions, " or "))
	}
	return found, err
}

// aim makes the target that the options name.
func (t *test) aim(ctx context.Context, index policies.CatalogueIndex) error {
	var state *authz.State
	var err error
	switch {
	case t.command.Bundle != "":
		state, err = bundleState(ctx, t.command.Bundle, t.runner.Policy)
	case t.command.Documents != "":
		var documents []policies.Document
		if documents, err = documentsAt(t.command.Documents, index); err == nil {
			state, err = vectors.State(ctx, t.runner.Policy, documents)
		}
	case t.command.URL != "":
		asked, err := authzclient.New(authzclient.Options{URL: t.command.URL, Token: t.command.Token})
		t.target = sidecarTarget{asked}
		return err
	default:
		return nil
	}
	if err != nil {
		return err
	}
	t.runner.Coverage.Add(state.PlatformData())
	t.target, err = vectors.Engine(state, time.Time{})
	return err
}

// bundleState is the state in a bundle.
func bundleState(ctx context.Context, path string, policy *authz.Policy) (*authz.State, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	contents, err := policies.ReadBundle(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return authz.BundleState(ctx, contents, policy)
}

// documentsAt reads account documents. The error has all that are wrong, each with its
// file and line.
func documentsAt(path string, index policies.CatalogueIndex) ([]policies.Document, error) {
	names, err := filesOf(path, ".json", ".ndjson")
	if err != nil {
		return nil, err
	}
	var all []policies.Document
	var errs []error
	for _, name := range names {
		data, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = data.Close() }()
		written, err := readDocuments(data, -1)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		for d := range policies.ReadDocuments(written.body, written.contentType, policies.WithCatalogue(index)) {
			if d.Err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: account %q: %w", name, written.line(d.Line), d.Account, d.Err))
				continue
			}
			all = append(all, d.Document)
		}
	}
	return all, errors.Join(errs...)
}

// sidecarTarget asks a sidecar.
type sidecarTarget struct{ client *authzclient.Client }

// Check implements [vectors.Decider].
func (s sidecarTarget) Check(ctx context.Context, atLeast policies.Revision, q authz.Question) (authz.Decision, error) {
	asked := authzclient.Question{
		Account: policies.AccountID(q.Subject), Action: policies.ActionName(q.Action),
		Resource: policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID},
	}
	if q.Request != nil {
		if err := json.Unmarshal(q.Request.Context, &asked.Context); err != nil {
			return authz.Decision{}, fmt.Errorf("the context: %w", err)
		}
	}
	found, err := s.client.Check(authzclient.AtLeast(ctx, atLeast), asked)
	return authz.Decision{
		Allow: found.Allow, Reason: found.Reason, Level: found.Level, Roles: found.Roles, Policies: found.Policies, Owner: found.Owner, Revision: found.Revision,
	}, err
}

// askWhatThereIs takes the documents of all owners that the sidecar named from the
// admin server: a sidecar does not tell what roles there are.
func (t *test) askWhatThereIs(ctx context.Context, index policies.CatalogueIndex) error {
	if t.command.AdminURL == "" {
		t.unknown = "without --admin-url it is not known what roles and policies there are"
		if t.command.Threshold > 0 {
			return missing("admin-url", "for --threshold: a sidecar does not tell what roles and policies there are")
		}
		return nil
	}
	admin, err := newClient("admin-url", t.command.AdminURL, t.command.Token)
	if err != nil {
		return err
	}
	var documents []policies.Document
	for _, owner := range t.runner.Coverage.Owners() {
		resp, err := admin.do(ctx, http.MethodGet, "/v1/accounts/"+url.PathEscape(string(owner))+"/export", "", nil)
		if err != nil {
			return fmt.Errorf("ask what roles and policies there are: %w", err)
		}
		for d := range policies.ReadDocuments(resp.Body, policies.MediaTypeJSON, policies.WithCatalogue(index)) {
			if d.Err != nil {
				err = errors.Join(err, fmt.Errorf("read the document of %s: %w", owner, d.Err))
			}
			documents = append(documents, d.Document)
		}
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
	}
	state, err := vectors.State(ctx, t.runner.Policy, documents)
	if err != nil {
		return err
	}
	t.runner.Coverage.Add(state.PlatformData())
	return nil
}

// enough tells whether the threshold is reached.
func (t *test) enough() bool {
	c := &t.runner.Coverage
	return c.Roles().Percent() >= t.command.Threshold && c.Policies().Percent() >= t.command.Threshold
}
