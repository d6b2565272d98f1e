package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// settings gives options that the command line does not set their values from
// the environment, else from the file that --config names. It is kong's only
// resolver: kong itself asks resolvers after the environment and lets them win,
// so the variables are read here too. Only the chosen command's variables are
// looked at; a key of the file must belong to some command, so that one file may
// serve all.
type settings struct {
	lookupEnv func(string) (string, bool)
	loaded    bool
	path      string
	file      map[string]any
}

// settingsError is a fault of the file, not of the option that was asked for when
// it was read.
type settingsError struct{ error }

func (e *settingsError) Unwrap() error { return e.error }

func newSettings(lookupEnv func(string) (string, bool)) *settings {
	return &settings{lookupEnv: lookupEnv}
}

var _ kong.Resolver = (*settings)(nil)

// Validate has nothing left to do: keys are checked when the file is read.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve is the value of flag, nil if neither the environment nor the file has
// one. An empty variable is one that is not set, as in most shells' idioms.
func (s *settings) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if len(flag.Envs) == 0 {
		return nil, nil
	}
	if err := s.load(ctx); err != nil {
		return nil, &settingsError{err}
	}
	if value, ok := s.lookupEnv(flag.Envs[0]); ok && value != "" {
		return checkedValue(flag, value, "$"+flag.Envs[0])
	}
	if flag.Name == "config" {
		return nil, nil
	}
	value, ok := s.file[settingsKey(flag.Name)]
	if !ok {
		return nil, nil
	}
	where := s.path + ": " + settingsKey(flag.Name)
	switch value.(type) {
	case map[string]any, nil:
		return nil, &settingsError{fmt.Errorf("%s wants a value", where)}
	case []any:
		if !flag.IsSlice() {
			return nil, &settingsError{fmt.Errorf("%s wants one value, not a list", where)}
		}
		return value, nil
	}
	return checkedValue(flag, fmt.Sprint(value), where)
}

// checkedValue is text, or an error that says where it comes from if flag cannot
// take it. A secret's text never shows.
func checkedValue(flag *kong.Flag, text, from string) (any, error) {
	trial := reflect.New(flag.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, trial); err != nil {
		return nil, &settingsError{fmt.Errorf("%s: %w", from, err)}
	}
	if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), text) {
		return nil, &settingsError{fmt.Errorf("%s must be one of %s", from, strings.Join(flag.EnumSlice(), ", "))}
	}
	return text, nil
}

// load reads the file once, if there is one.
func (s *settings) load(ctx *kong.Context) error {
	if s.loaded {
		return nil
	}
	s.loaded = true
	for _, flag := range ctx.Model.Flags {
		if flag.Name == "config" {
			s.path, _ = ctx.FlagValue(flag).(string)
			if s.path == "" {
				s.path, _ = s.lookupEnv(flag.Envs[0])
			}
		}
	}
	if s.path == "" {
		return nil
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("%s is not a YAML map of options: %s", s.path, yaml.FormatError(err, false, false))
	}
	known := map[string]bool{}
	visitFlags(ctx.Model.Node, func(_ *kong.Node, flag *kong.Flag) { known[settingsKey(flag.Name)] = flag.Name != "config" })
	s.file = map[string]any{}
	for key, value := range file {
		name := settingsKey(key)
		if !known[name] {
			return fmt.Errorf("%s: unknown key %q (docs/configuration.md lists the keys)", s.path, key)
		}
		if _, twice := s.file[name]; twice {
			return fmt.Errorf("%s: key %q stands there twice", s.path, key)
		}
		s.file[name] = value
	}
	return nil
}

// settingsKey is a flag's key in the file: database_url; database-url does too.
func settingsKey(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// nameVariables gives each option the name of its variable: USHER_ and the
// flag's name. After kong.New, which overwrites them with those of tags.
func nameVariables(k *kong.Kong) {
	visitFlags(k.Model.Node, func(_ *kong.Node, flag *kong.Flag) {
		flag.Envs = []string{"USHER_" + strings.ToUpper(settingsKey(flag.Name))}
	})
}

// visitFlags calls visit for every option but --help, of node and below it.
func visitFlags(node *kong.Node, visit func(*kong.Node, *kong.Flag)) {
	for _, flag := range node.Flags {
		if flag.Name != "help" {
			visit(node, flag)
		}
	}
	for _, child := range node.Children {
		visitFlags(child, visit)
	}
}
