package guardrails

import (
	"context"
	"fmt"
	"io/fs"
	"path"

	"github.com/usher-authz/usher/policies"
)

// Read reads all files of a directory, and of those below it, that end in .rego (file
// name → source). What is hidden, by a name that begins with a dot, is left out. The
// error is of the file system, that there are none, or a [*policies.TooLargeError].
func Read(dir fs.FS) (map[string]string, error) {
	sources := map[string]string{}
	size := int64(0)
	err := fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && entry.Name()[0] == '.':
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || path.Ext(name) != ".rego":
			return nil
		}
		info, err := fs.Stat(dir, name)
		if err != nil {
			return err
		}
		if size += info.Size(); size > policies.MaxGuardrailsBytes {
			return &policies.TooLargeError{What: "the Rego of the guardrails", Limit: policies.MaxGuardrailsBytes}
		}
		data, err := fs.ReadFile(dir, name)
		sources[name] = string(data)
		return err
	})
	if err == nil && len(sources) == 0 {
		err = fmt.Errorf("it has no files that end in .rego")
	}
	return sources, err
}

// Build is inForce with these sources (file name → source) in place of its guardrails,
// compiled and tested; the results are those of the tests among them. Errors are those
// of [Make] and [Test].
func Build(ctx context.Context, inForce policies.PolicyInForce, sources map[string]string) (policies.PolicyInForce, []TestResult, error) {
	modules, err := Make(sources)
	if err != nil {
		return policies.PolicyInForce{}, nil, err
	}
	built, err := inForce.WithGuardrails(modules)
	if err != nil {
		return policies.PolicyInForce{}, nil, err
	}
	results, err := Test(ctx, built, sources)
	return built, results, err
}
