package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/authz/decisionlog"
)

// decisionLogging is the options of every server that decides.
type decisionLogging struct {
	DecisionLogConsole bool    `help:"Log decisions on standard output, in OPA's format."`
	DecisionLogFile    string  `help:"Log decisions to this file, an event a line." placeholder:"PATH"`
	DecisionLogURL     string  `help:"Log decisions to what takes OPA's, e.g. the admin server's /v1/logs." placeholder:"URL"`
	DecisionLogToken   string  `help:"The bearer token for --decision-log-url; a sidecar uses --token below --admin-url." placeholder:"TOKEN"`
	DecisionLogRules   string  `help:"Rego with data.system.log.drop and mask: which decisions are not logged, and what is taken out." placeholder:"FILE"`
	DecisionLogSample  float64 `default:"1" help:"The share of allows that are logged, 0 to 1; denials always are."`
	DecisionLogBuffer  int     `default:"10000" help:"How many decisions wait to be logged at most; more are dropped and counted."`

	DecisionLogFileSize    int `default:"100" help:"At how many megabytes a new file is begun."`
	DecisionLogFileBackups int `default:"5" help:"How many old files are kept; 0: all."`
}

// decisionLog is where decisions are logged; nil: they are not. The token is for what is
// below the admin server's URL.
func (d *decisionLogging) decisionLog(ctx context.Context, console io.Writer, adminURL, token string) (*decisionlog.Options, error) {
	if !d.DecisionLogConsole && d.DecisionLogFile == "" && d.DecisionLogURL == "" {
		if d.DecisionLogRules != "" {
			return nil, errors.New("--decision-log-rules is given, and nowhere to log to: add --decision-log-console, --decision-log-file or --decision-log-url")
		}
		return nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find out the name of this machine: %w", err)
	}
	o := &decisionlog.Options{
		Labels: map[string]string{"id": host + "/" + strconv.Itoa(os.Getpid()), "app": "usher", "version": version()},
		File:   d.DecisionLogFile, FileSize: d.DecisionLogFileSize, FileBackups: d.DecisionLogFileBackups,
		URL: d.DecisionLogURL, Token: d.DecisionLogToken, Sample: d.DecisionLogSample, Buffer: d.DecisionLogBuffer,
	}
	if d.DecisionLogConsole {
		o.Console = console
	}
	// A token goes only to the server that it was given for.
	if o.Token == "" && adminURL != "" && strings.HasPrefix(o.URL, strings.TrimSuffix(adminURL, "/")+"/") {
		o.Token = token
	}
	if d.DecisionLogRules == "" {
		return o, nil
	}
	source, err := os.ReadFile(d.DecisionLogRules)
	if err != nil {
		return nil, fmt.Errorf("cannot read --decision-log-rules: %w", err)
	}
	o.Rules, err = decisionlog.NewRules(ctx, map[string]string{d.DecisionLogRules: string(source)})
	return o, err
}
