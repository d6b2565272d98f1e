package vectors

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// File is what a file of expected decisions says.
type File struct {
	Worlds []World
	Checks []Check // of data that stands elsewhere
}

// World is data with its checks.
type World struct {
	Name      string
	Now       time.Time // by which grants end; zero: the present
	Documents []policies.Document
	Checks    []Check
}

// Check is a question, and what is expected of the answer.
type Check struct {
	File  string
	Line  int    // in the file, from 1; 0 where it is not known
	World string // its name; empty for checks of data that stands elsewhere
	Name  string

	Question authz.Question
	Allow    bool
	// What else is expected; nil: anything.
	Reason   *policies.Reason
	Level    *policies.Level
	Roles    *[]string
	Policies *[]policies.PolicyID
	Owner    *policies.AccountID
}

// The file as it is written.
type (
	wireFile struct {
		Comment string      `yaml:"comment"`
		Worlds  []wireWorld `yaml:"worlds"`
		Checks  []wireCheck `yaml:"checks"`
	}
	wireWorld struct {
		Name     string      `yaml:"name"`
		Why      string      `yaml:"why"`
		Now      string      `yaml:"now"`
		Account  any         `yaml:"account"`
		Accounts []any       `yaml:"accounts"`
		Checks   []wireCheck `yaml:"checks"`
	}
	wireCheck struct {
		Name     string               `yaml:"name"`
		Why      string               `yaml:"why"`
		Subject  string               `yaml:"subject"`
		Action   string               `yaml:"action"`
		Resource any                  `yaml:"resource"`
		Context  map[string]any       `yaml:"context"`
		Decision *bool                `yaml:"decision"`
		Reason   *policies.Reason     `yaml:"reason"`
		Level    *policies.Level      `yaml:"level"`
		Roles    *[]string            `yaml:"roles"`
		Policies *[]policies.PolicyID `yaml:"policies"`
		Owner    *policies.AccountID  `yaml:"owner"`
	}
)

// Parse reads a file, which name is for messages; the documents in it must fit the
// catalogue. The error has all that is wrong, each with its line; but what is not YAML,
// or has an unknown key, hides the rest.
func Parse(name string, data []byte, catalogue policies.CatalogueIndex) (*File, error) {
	r := &reader{name: name, catalogue: catalogue}
	tree, err := parser.ParseBytes(data, 0)
	var wire wireFile
	if err == nil {
		r.tree = tree
		err = yaml.UnmarshalWithOptions(data, &wire, yaml.Strict())
	}
	if err != nil {
		return nil, r.unreadable(err)
	}
	f := &File{}
	for i, w := range wire.Worlds {
		f.Worlds = append(f.Worlds, r.world(fmt.Sprintf("$.worlds[%d]", i), &w))
	}
	f.Checks = r.checks("$", "", wire.Checks)
	if len(f.Worlds) == 0 && len(f.Checks) == 0 {
		r.wrongf("$", "has neither worlds nor checks")
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return f, nil
}

// reader gathers what is wrong with a file.
type reader struct {
	name      string
	tree      *ast.File
	catalogue policies.CatalogueIndex
	errs      []error
}

// unreadable is an error of the YAML library as one line, with where it is.
func (r *reader) unreadable(err error) error {
	var kind *yaml.TypeError
	if errors.As(err, &kind) && kind.Token != nil && kind.Token.Position != nil {
		return fmt.Errorf("%s:%d: a %s stands where a %s is wanted", r.name, kind.Token.Position.Line, kind.SrcType, kind.DstType)
	}
	var placed yaml.Error
	if errors.As(err, &placed) && placed.GetToken() != nil && placed.GetToken().Position != nil {
		return fmt.Errorf("%s:%d: %s", r.name, placed.GetToken().Position.Line, placed.GetMessage())
	}
	return fmt.Errorf("%s: %w", r.name, err)
}

// line is that of the value at a path such as $.worlds[1].checks[0], or 0.
func (r *reader) line(path string) int {
	at, err := yaml.PathString(path)
	if err != nil {
		return 0
	}
	node, err := at.FilterFile(r.tree)
	if err != nil || node == nil || node.GetToken() == nil {
		return 0 // by an alias, it stands elsewhere
	}
	return node.GetToken().Position.Line
}

func (r *reader) wrongf(path, format string, args ...any) {
	where := r.name
	if line := r.line(path); line > 0 {
		where = fmt.Sprintf("%s:%d", r.name, line)
	}
	r.errs = append(r.errs, fmt.Errorf("%s: "+format, append([]any{where}, args...)...))
}

func (r *reader) world(path string, w *wireWorld) World {
	made := World{Name: w.Name}
	if made.Name == "" {
		made.Name = strings.TrimPrefix(path, "$.")
	}
	if w.Now != "" {
		var err error
		if made.Now, err = time.Parse(time.RFC3339, w.Now); err != nil {
			r.wrongf(path+".now", "now must be a time like 2026-11-25T12:00:00Z, not %q", w.Now)
		}
	}
	if w.Account != nil {
		made.Documents = append(made.Documents, r.document(path+".account", w.Account)...)
	}
	for i, account := range w.Accounts {
		made.Documents = append(made.Documents, r.document(fmt.Sprintf("%s.accounts[%d]", path, i), account)...)
	}
	if w.Account == nil && len(w.Accounts) == 0 {
		r.wrongf(path, "the world %q has no account and no accounts", made.Name)
	}
	if len(w.Checks) == 0 {
		r.wrongf(path, "the world %q has no checks", made.Name)
	}
	made.Checks = r.checks(path, made.Name, w.Checks)
	return made
}

// document reads an account document, as an import does; none if it is wrong.
func (r *reader) document(path string, from any) []policies.Document {
	data, err := json.Marshal(from)
	var document policies.Document
	if err == nil {
		document, err = policies.DecodeDocument(data, policies.WithCatalogue(r.catalogue))
	}
	if err != nil {
		r.wrongf(path, "the account document: %w", err)
		return nil
	}
	return []policies.Document{document}
}

func (r *reader) checks(path, world string, from []wireCheck) []Check {
	made := make([]Check, len(from))
	for i := range from {
		made[i] = r.check(fmt.Sprintf("%s.checks[%d]", path, i), &from[i])
		made[i].World = world
	}
	return made
}

func (r *reader) check(path string, w *wireCheck) Check {
	c := Check{
		File: r.name, Line: r.line(path), Name: w.Name, Reason: w.Reason, Level: w.Level, Roles: w.Roles, Policies: w.Policies, Owner: w.Owner,
		Question: authz.Question{SubjectType: "account", Subject: w.Subject, Action: w.Action},
	}
	if w.Context != nil {
		context, err := json.Marshal(w.Context)
		if err != nil {
			r.wrongf(path, "the context is no JSON: %w", err)
		}
		c.Question.Request = &authz.Request{Context: context}
	}
	if w.Subject == "" || w.Action == "" {
		r.wrongf(path, "a check needs a subject and an action")
	}
	if w.Decision == nil {
		r.wrongf(path, "a check needs the decision that is expected, true or false")
	} else {
		c.Allow = *w.Decision
	}
	var ok bool
	switch resource := w.Resource.(type) {
	case string:
		c.Question.ResourceType, c.Question.ResourceID, ok = strings.Cut(resource, ":")
	case map[string]any:
		kind, typed := resource["type"].(string)
		id, named := resource["id"].(string)
		c.Question.ResourceType, c.Question.ResourceID, ok = kind, id, typed && named && len(resource) == 2
	}
	if !ok || c.Question.ResourceType == "" || c.Question.ResourceID == "" {
		r.wrongf(path, "a check needs a resource, TYPE:ID or {type: TYPE, id: ID}")
	}
	return c
}
