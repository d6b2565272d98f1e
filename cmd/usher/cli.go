package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// Process is what a command has of the process around it, so that tests bring
// their own.
type Process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	LookupEnv      func(name string) (string, bool)
}

// commandLine declares every command and option: from these tags come the flags,
// the USHER_* variables, the keys of the --config file, --help and
// docs/configuration.md.
type commandLine struct {
	Config string `help:"YAML file with options, e.g. 'listen: 127.0.0.1:9000'. A flag beats the environment beats the file." placeholder:"FILE"`

	Dev        devCommand        `cmd:"" help:"Run everything on this machine: PostgreSQL, Redis, admin, sidecars, demo data."`
	Admin      adminCommand      `cmd:"" help:"Run the admin server: REST, feed, bundles, checks."`
	Sidecar    sidecarCommand    `cmd:"" help:"Run the check server beside your service."`
	Migrate    migrateCommand    `cmd:"" help:"Bring the database's schema and the policy in force up to date."`
	Token      tokenCommand      `cmd:"" help:"Make, list and revoke service tokens."`
	Mail       mailCommand       `cmd:"" help:"See, retry and discard mails that were not sent."`
	Keys       keysCommand       `cmd:"" help:"Make the key pairs that sign feed and bundles."`
	Epoch      epochCommand      `cmd:"" help:"Tell revisions of a restored database from those that were lost."`
	Import     importCommand     `cmd:"" help:"Send account documents to the admin server."`
	Export     exportCommand     `cmd:"" help:"Print the document of an account."`
	Check      checkCommand      `cmd:"" help:"Ask a sidecar. Exit code 0: allowed, 1: denied, 2: error."`
	WhoCan     whoCanCommand     `cmd:"" help:"List the accounts that may do an action on a resource."`
	WhatCan    whatCanCommand    `cmd:"" help:"List what an account may do, on one resource or on which ones."`
	Test       testCommand       `cmd:"" help:"Hold expected decisions against a bundle, account documents or a sidecar. Exit code 0: as expected, 1: not, 2: error."`
	Guardrails guardrailsCommand `cmd:"" help:"Rego of a security team, which takes away by the request's context: test it, put it in force."`
	Audit      auditCommand      `cmd:"" help:"Verify the change log, keep its head elsewhere, erase data of persons."`
	Diff       diffCommand       `cmd:"" help:"Show which permissions differ between two revisions."`
	Watch      watchCommand      `cmd:"" help:"Follow what changes, and what is decided."`
	Bundle     bundleCommand     `cmd:"" help:"Build OPA bundles."`
	Bench      benchCommand      `cmd:"" help:"Measure an usher, each figure beside its floor; every answer is compared."`
	Completion completionCommand `cmd:"" help:"Print the script that lets a shell complete commands, options and actions."`
	Health     healthCommand     `cmd:"" help:"Exit 0 if the server at URL is ready, 1 if not (for container health checks)."`
	Version    versionCommand    `cmd:"" help:"Print the version."`

	BenchFloor benchFloorCommand `cmd:"" help:"The least that any check server must do, for usher bench." hidden:""`
}

// withVerdict are the commands whose exit code 1 is an answer.
var withVerdict = []string{"check", "test", "guardrails test", "audit verify"}

// exitError ends a command with Code and, unless it is empty, one line.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

func (e *exitError) Unwrap() error { return e.Err }

// Run parses args, runs the command that they name until it is done or ctx ends,
// and returns the exit code: 0 done, 1 failed with one line on Stderr; commands with a
// verdict have their own: 0 yes, 1 no, 2 failed. It is safe to call many times over.
func Run(ctx context.Context, args []string, p Process) int {
	var cli commandLine
	exited := false
	parser, err := newParser(&cli, p, func(int) { exited = true })
	if err != nil {
		return fail(p, &exitError{Code: 1, Err: err})
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited { // --help was printed
		return 0
	}
	failed := 1
	if slices.ContainsFunc(withVerdict, func(command string) bool { return strings.HasPrefix(strings.Join(args, " ")+" ", command+" ") }) {
		failed = 2
	}
	if err == nil {
		parsed.BindTo(ctx, (*context.Context)(nil))
		err = parsed.Run(&p)
	} else {
		err = usageError(err)
	}
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return fail(p, exit)
	default:
		return fail(p, &exitError{Code: failed, Err: err})
	}
}

func fail(p Process, exit *exitError) int {
	if exit.Err != nil {
		// One line, whatever a library put into its message.
		line := strings.Join(strings.Fields(strings.ReplaceAll(exit.Err.Error(), "\n", "; ")), " ")
		_, _ = fmt.Fprintln(p.Stderr, "usher:", line)
	}
	return exit.Code
}

// usageError says what is wrong with the command line, or with the file or variable
// that an option came from, and where to look.
func usageError(err error) error {
	var settings *settingsError
	if errors.As(err, &settings) {
		return settings
	}
	return fmt.Errorf("%w (see usher %s--help)", err, selectedCommand(err))
}

// selectedCommand is the command that a parse error belongs to, with a space
// after it, or nothing.
func selectedCommand(err error) string {
	var parse *kong.ParseError
	if !errors.As(err, &parse) || parse.Context == nil || parse.Context.Selected() == nil {
		return ""
	}
	path := strings.Fields(parse.Context.Selected().FullPath())
	return strings.Join(path[1:], " ") + " "
}

// newParser builds kong's model of cli. Names of variables come from the flags'
// names; their values come in by [settings], not by kong, in whose order a file
// beats the environment.
func newParser(cli *commandLine, p Process, exit func(int)) (*kong.Kong, error) {
	options := newSettings(p.LookupEnv)
	parser, err := kong.New(
		cli,
		kong.Name("usher"),
		kong.Description("Who may do what on whose environment: an authorization sidecar and its admin server.\n\n"+
			"Start with: usher dev"),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(helpText),
		kong.Resolvers(options),
	)
	if err != nil {
		return nil, err
	}
	nameVariables(parser)
	return parser, nil
}

// helpText is an option's help with the name of its variable.
func helpText(value *kong.Value) string {
	if value.Flag == nil || len(value.Flag.Envs) == 0 {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " ($" + value.Flag.Envs[0] + ")."
}

// logging is the options of every server's log.
type logging struct {
	LogLevel  string `default:"info"  enum:"debug,info,warn,error" help:"The least level that is logged: ${enum}."`
	LogFormat string `default:"auto"  enum:"auto,text,json"        help:"How the log is written: ${enum}; auto: text on a terminal, else json."`
}

// logger writes to w as the options say.
func (l logging) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if l.LogFormat == "text" || (l.LogFormat == "auto" && onTerminal(w)) {
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), nil
}

// readable writes durations as people do, 1.5s, which in JSON would be nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// onTerminal tells whether w is a terminal.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
