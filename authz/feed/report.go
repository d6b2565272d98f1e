package feed

import (
	"context"
	crypto "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/usher-authz/usher/policies"
)

// ReportPath is where a sidecar tells an admin server how far it is.
const ReportPath = "/v1/feed/report"

// The times of reports.
const (
	// ReportInterval is the longest time between two reports of a sidecar.
	ReportInterval = 3 * time.Second
	// ReportLease is how long after its last report a sidecar counts as connected.
	ReportLease = 10 * time.Second

	// reportAfter is how long after a revision it is reported, half as much to half as
	// much again: checks that wait for it come first, revisions that come meanwhile are
	// reported together, and a fleet does not report at once.
	reportAfter   = 50 * time.Millisecond
	reportTimeout = 5 * time.Second
	leaveTimeout  = time.Second
	rateWindow    = time.Second // checks are counted over this at least
)

const (
	maxReportText   = 255 // of a name or a version, in bytes
	maxReportAnswer = 1 << 10
)

// Self is what a sidecar says of itself.
type Self struct {
	Name    string         // for people; required
	Version string         // of the program
	Checks  func() float64 // answered since the start; nil: it does not say
}

// Report is what a sidecar tells. What it applied, every check from then on is
// answered from.
type Report struct {
	Sidecar         string            `json:"sidecar"`  // of this process: 32 digits of hex
	Sequence        uint64            `json:"sequence"` // of its reports, from 1
	Name            string            `json:"name"`
	Version         string            `json:"version"`
	Mode            Mode              `json:"mode"`
	Revision        policies.Revision `json:"revision"`              // applied
	Age             *float64          `json:"age_seconds,omitempty"` // of its data; nil: it was never known to be the platform's
	ChecksPerSecond float64           `json:"checks_per_second"`
	Leaving         bool              `json:"leaving,omitzero"` // it stops, and tells nothing any more
}

// Validate tells whether r is within its limits.
func (r *Report) Validate() error {
	number := func(n float64) bool { return n >= 0 && !math.IsInf(n, 0) }
	switch {
	case len(r.Sidecar) != 2*idBytes || !ValidNonce(r.Sidecar):
		return errors.New("sidecar is not 32 digits of lower-case hex")
	case r.Sequence == 0 || r.Sequence > math.MaxInt64:
		return errors.New("sequence is out of range")
	case r.Name == "" || !plain(r.Name):
		return fmt.Errorf("name is not plain text of 1 to %d bytes", maxReportText)
	case !plain(r.Version):
		return fmt.Errorf("version is not plain text of up to %d bytes", maxReportText)
	case !r.Mode.Valid():
		return fmt.Errorf("mode is none of %v", Modes)
	case r.Revision > policies.MaxRevision:
		return errors.New("revision is out of range")
	case r.Age != nil && !number(*r.Age), !number(r.ChecksPerSecond):
		return errors.New("age_seconds or checks_per_second is no number from 0")
	}
	return nil
}

func plain(s string) bool {
	if len(s) > maxReportText || !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if unicode.IsControl(c) {
			return false
		}
	}
	return true
}

const idBytes = 16

// The outcomes of a report in metrics.
const (
	reportGood   = "good"
	reportFailed = "failed"
)

// reporter tells the server how far a client is: soon after each revision that it has
// applied, and every few seconds. It is for one goroutine.
type reporter struct {
	c        *Client
	id       string
	sequence uint64
	failing  bool // one log line for each outage
	// Checks are counted from here.
	since   time.Time
	counted float64
	rate    float64
}

func newReporter(c *Client) *reporter {
	id := make([]byte, idBytes)
	_, _ = crypto.Read(id) // never fails, says its documentation
	return &reporter{c: c, id: hex.EncodeToString(id), since: time.Now()}
}

// run reports until ctx ends, and then that the sidecar leaves.
func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(ReportInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.c.progress.moved:
		case <-tick.C:
		case <-ctx.Done():
		}
		later := time.NewTimer(reportAfter/2 + rand.N(reportAfter)) //nolint:gosec // no secret
		select {
		case <-later.C:
		case <-ctx.Done():
			later.Stop()
			r.leave(ctx)
			return
		}
		select { // what moved meanwhile is told now
		case <-r.c.progress.moved:
		default:
		}
		r.tell(ctx, false)
	}
}

// leave tells that no report comes any more, if there was one.
func (r *reporter) leave(ctx context.Context) {
	if r.sequence == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	r.tell(ctx, true)
}

// tell sends one report. Before there is a state there is nothing to tell: nobody is
// answered from it.
func (r *reporter) tell(ctx context.Context, leaving bool) {
	revision, answering := r.c.progress.answersFrom()
	if !answering {
		return
	}
	r.sequence++
	report := Report{
		Sidecar: r.id, Sequence: r.sequence, Name: r.c.o.Self.Name, Version: r.c.o.Self.Version,
		Mode: r.c.receiver.mode(), Revision: revision, ChecksPerSecond: r.checks(), Leaving: leaving,
	}
	if age, ok := r.c.Age(); ok {
		seconds := age.Seconds()
		report.Age = &seconds
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := r.c.ask(ctx, question{path: ReportPath, body: report, what: "an answer to a report", limit: maxReportAnswer, silence: reportTimeout})
	outcome := reportGood
	if err != nil {
		outcome = reportFailed
	}
	r.c.metrics.reports.WithLabelValues(outcome).Inc()
	if err != nil && !r.failing && !leaving {
		r.c.o.Logger.LogAttrs(ctx, slog.LevelWarn, "the admin server does not take reports, and receipts lack this sidecar", slog.Any("error", err))
	}
	r.failing = err != nil
}

// checks is how many were answered a second lately.
func (r *reporter) checks() float64 {
	if r.c.o.Self.Checks == nil {
		return 0
	}
	if past := time.Since(r.since); past >= rateWindow {
		now := r.c.o.Self.Checks()
		r.rate = max(now-r.counted, 0) / past.Seconds()
		r.since, r.counted = time.Now(), now
	}
	return r.rate
}
