// Package rego holds the Rego modules in which every decision is made, as files
// embedded as they are, for the engine, the bundles and `opa test` alike.
//
// usher/authz decides on the check: effective (what a subject has on a resource),
// levels (the same for people), decision and allow (the answer to one request).
// See the annotations of each rule, and domain.md, The check.
package rego

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed usher
var files embed.FS

// Modules returns the source of every module that decides, without tests, by its
// path in the bundle, such as usher/authz/decision.rego. The map is the caller's.
func Modules() map[string]string {
	modules := map[string]string{}
	// An embedded tree is read from memory: its errors cannot be.
	_ = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".rego") || strings.HasSuffix(path, "_test.rego") {
			return err
		}
		source, err := files.ReadFile(path)
		modules[path] = string(source)
		return err
	})
	return modules
}
