package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/usher-authz/usher/authz/vectors"
)

// print prints the results as the option says.
func (t *test) print() error {
	switch t.command.Output {
	case "json":
		return printJSON(t.process, t.report())
	case "junit":
		return t.printJUnit(t.process.Stdout)
	}
	return t.printText(t.process.Stdout)
}

// printText prints what failed, and what was exercised.
func (t *test) printText(w io.Writer) error {
	var text strings.Builder
	for _, r := range t.runner.Results {
		if len(r.Differences) > 0 {
			fmt.Fprintf(&text, "FAIL %s: %s\n", r.Check, told(r))
		}
	}
	failed := t.runner.Failed()
	fmt.Fprintf(&text, "%d checks: %d as expected, %d not\n", len(t.runner.Results), len(t.runner.Results)-failed, failed)
	if t.unknown != "" {
		fmt.Fprintf(&text, "coverage: %s\n", t.unknown)
	} else {
		for _, of := range []struct {
			name  string
			share vectors.Share
		}{{"roles", t.runner.Coverage.Roles()}, {"policies", t.runner.Coverage.Policies()}} {
			fmt.Fprintf(&text, "coverage: %d of %d %s (%.1f %%)", of.share.Exercised, of.share.Of, of.name, of.share.Percent())
			if of.share.Percent() < t.command.Threshold {
				fmt.Fprintf(&text, ", less than %g %%", t.command.Threshold)
			}
			text.WriteString("\n")
			for _, never := range of.share.Never {
				fmt.Fprintf(&text, "  never: %s\n", never)
			}
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// told is what differs, for people.
func told(r vectors.Result) string {
	texts := make([]string, len(r.Differences))
	for i, d := range r.Differences {
		texts[i] = d.String()
	}
	return strings.Join(texts, "; ")
}

// testReport is what --output json prints.
type testReport struct {
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Checks   []checkReport  `json:"checks"`
	Coverage *coverageShare `json:"coverage,omitzero"` // absent where it is not known
}

type checkReport struct {
	File        string               `json:"file"`
	Line        int                  `json:"line"`
	World       string               `json:"world,omitzero"`
	Check       string               `json:"check"`
	Passed      bool                 `json:"passed"`
	Differences []vectors.Difference `json:"differences"`
}

type coverageShare struct {
	Roles    vectors.Share `json:"roles"`
	Policies vectors.Share `json:"policies"`
}

func (t *test) report() testReport {
	failed := t.runner.Failed()
	made := testReport{Passed: len(t.runner.Results) - failed, Failed: failed, Checks: []checkReport{}}
	if t.unknown == "" {
		made.Coverage = &coverageShare{t.runner.Coverage.Roles(), t.runner.Coverage.Policies()}
	}
	for _, r := range t.runner.Results {
		made.Checks = append(made.Checks, checkReport{
			File: r.Check.File, Line: r.Check.Line, World: r.Check.World, Check: r.Check.Title(),
			Passed: len(r.Differences) == 0, Differences: r.Differences,
		})
	}
	return made
}

// JUnit's XML, as CI servers read it.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
	}
)

func (t *test) printJUnit(w io.Writer) error {
	suite := junitSuite{Name: "usher test", Tests: len(t.runner.Results), Failures: t.runner.Failed()}
	for _, r := range t.runner.Results {
		made := junitCase{Class: r.Check.World, Name: r.Check.Title(), File: r.Check.File, Line: r.Check.Line}
		if made.Class == "" {
			made.Class = r.Check.File
		}
		if len(r.Differences) > 0 {
			made.Failure = &junitFailure{told(r)}
		}
		suite.Cases = append(suite.Cases, made)
	}
	data, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}
