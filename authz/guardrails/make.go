package guardrails

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Make gives the modules that are in force for these sources (file name → source): file
// name in the bundle → source with the condition of every rule in it. Files that end in
// _test.rego are left out. To make what was made gives it unchanged.
//
// The error is a [*policies.InvalidError], whose fields are FILE:LINE, with every fault
// of the first stage that found any (names, then syntax, then rules, then what the
// compiler says), or a [*policies.TooLargeError].
func Make(sources map[string]string) (modules map[string]string, err error) {
	if err := checkFiles(sources); err != nil {
		return nil, err
	}
	var f faults
	parsed := map[string]*ast.Module{}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if IsTest(name) {
			continue
		}
		module, err := parse(name, sources[name])
		if err != nil {
			f.addAST(name, err)
			continue
		}
		parsed[name] = module
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	modules = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		f.checkModule(parsed[name])
		modules[policies.GuardrailsPath+name] = f.write(name, sources[name], parsed[name])
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	f.compile(parsed)
	return modules, f.err()
}

// IsTest tells whether the file is one of tests.
func IsTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// fileName is what a file may be called: a path below the directory of guardrails.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\.rego$`)

func checkFiles(sources map[string]string) error {
	var f faults
	size := 0
	for name, source := range sources {
		size += len(source)
		if !fileName.MatchString(name) || len(name) > policies.MaxNameLength {
			f.add(name, 0, "is no name for a file of guardrails: use letters, digits, _ . - and the ending .rego")
		}
	}
	if len(sources) > policies.MaxGuardrailFiles {
		f.add(fmt.Sprintf("%d files", len(sources)), 0,
			fmt.Sprintf("are more than the %d that guardrails may have: put rules together", policies.MaxGuardrailFiles))
	}
	if size > policies.MaxGuardrailsBytes {
		return &policies.TooLargeError{What: "the Rego of the guardrails", Limit: policies.MaxGuardrailsBytes}
	}
	return f.err()
}

func parse(name, source string) (*ast.Module, error) {
	return ast.ParseModuleWithOpts(name, source, ast.ParserOptions{
		RegoVersion: ast.RegoV1, ProcessAnnotation: true, Capabilities: authz.Capabilities(),
	})
}

// faults gathers what is wrong with guardrails.
type faults []policies.FieldError

// add notes a fault; line 0 is that of the file as a whole.
func (f *faults) add(file string, line int, reason string) {
	file = path.Clean(strings.TrimPrefix(file, policies.GuardrailsPath))
	if line > 0 {
		file = fmt.Sprintf("%s:%d", file, line)
	}
	if len(*f) < policies.MaxFieldErrors {
		*f = append(*f, policies.FieldError{Field: file, Reason: reason})
	}
}

func (f *faults) at(where *ast.Location, reason string) { f.add(where.File, where.Row, reason) }

// addAST notes what OPA's parser or compiler found.
func (f *faults) addAST(name string, err error) {
	found, ok := errors.AsType[ast.Errors](err)
	if !ok {
		f.add(name, 0, err.Error())
		return
	}
	for _, e := range found {
		reason := e.Code + ": " + e.Message
		if unknown, ok := strings.CutPrefix(e.Message, "undefined function "); ok && isBuiltin(unknown) {
			reason = unknown + " reaches out of the process or is not the same each time: give what it would find in the request's context"
		}
		if e.Location == nil {
			f.add(name, 0, reason)
			continue
		}
		f.at(e.Location, reason)
	}
}

func isBuiltin(name string) bool {
	_, ok := ast.BuiltinMap[name]
	return ok
}

func (f *faults) err() error {
	if len(*f) == 0 {
		return nil
	}
	slices.SortStableFunc(*f, func(a, b policies.FieldError) int { return cmp.Compare(a.Field, b.Field) })
	return &policies.InvalidError{Errors: *f}
}
