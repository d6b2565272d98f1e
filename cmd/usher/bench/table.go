package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) {
		for _, cell := range cells {
			_, _ = fmt.Fprint(t, cell, "\t") // Flush tells
		}
		_, _ = fmt.Fprintln(t)
	}
	row("over HTTP", "checks", "checks/s", "p50 µs", "p99 µs", "p99.9 µs", "server CPU µs", "× floor", "errors", "wrong")
	for _, l := range r.Loads {
		row(l.Name, fmt.Sprint(l.Checks), number(l.ChecksPerSec, 0), number(l.P50, 0), number(l.P99, 0), number(l.P999, 0),
			orDash(l.CPU, 1), orDash(l.OfFloor, 2), fmt.Sprint(l.Errors), fmt.Sprint(l.Wrong))
	}
	row()
	r.histograms(row)
	row()
	row("in process", "questions", "ns", "× floor", "allocations", "× on two cores", "the floor's", "wrong")
	for _, c := range []struct {
		name string
		Cached
	}{{"hot", r.Hot}, {"cold", r.Cold}} {
		row(c.name, fmt.Sprint(c.Questions), number(c.Nanoseconds, 0), number(c.OfFloor, 2), number(c.Allocations, 2),
			number(c.TwoCores, 2), number(c.FloorTwoCores, 2), fmt.Sprint(c.Wrong))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	imported := "there already"
	if r.Import.Changed {
		imported = number(r.Import.GrantsPerSec, 0) + " grants/s"
	}
	_, err := fmt.Fprintf(w, `
platform     %d owners, %d grants, seed %d
import       %s
memory       %s bytes a grant, the whole platform included; %s in OPA's store; a sidecar's process %s MB until it was ready, %s in the end, %s at most
cold start   %s s, snapshot over the feed; %s s from disk without the admin server, %s s of processor time, %s × reading and hashing the file
miss         %s µs, %s × the query on OPA's store
in Redis     %s
revocation   %s
under load   %s
`, r.Owners, r.Grants, r.Seed, imported, number(r.BytesPerGrant, 0), number(r.OPABytesPerGrant, 0),
		megabytes(r.Started), megabytes(r.Resident), megabytes(r.Peak),
		number(r.ColdStart, 2), number(r.Disk.Seconds, 2), number(r.Disk.Processor, 2), number(r.Disk.OfFloor, 1),
		number(r.Miss.Nanoseconds/1e3, 0), number(r.Miss.OfFloor, 2),
		r.inRedis(), r.Revocation, r.Loaded)
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// histograms are the requests of each load by the time that they took, in a column for
// each bound that some load needs.
func (r *Report) histograms(row func(cells ...string)) {
	requests := map[float64]map[string]int{} // by bound and load
	for _, l := range r.Loads {
		for _, b := range l.Histogram {
			if requests[b.UpTo] == nil {
				requests[b.UpTo] = map[string]int{}
			}
			requests[b.UpTo][l.Name] = b.Requests
		}
	}
	bounds := slices.Sorted(maps.Keys(requests))
	cells := []string{"requests within"}
	for _, bound := range bounds {
		cells = append(cells, time.Duration(bound*float64(time.Microsecond)).String())
	}
	row(cells...)
	for _, l := range r.Loads {
		cells := []string{l.Name}
		for _, bound := range bounds {
			cells = append(cells, fmt.Sprint(requests[bound][l.Name]))
		}
		row(cells...)
	}
}

func (r *Report) inRedis() string {
	if r.InRedis == nil {
		return "not measured: no Redis was named"
	}
	return fmt.Sprintf("%s µs, %s × one GET", number(r.InRedis.Nanoseconds/1e3, 0), number(r.InRedis.OfFloor, 2))
}

// String is a line for people.
func (r Revocation) String() string {
	return fmt.Sprintf("p50 %s ms, p99 %s ms, max %s ms from the admin's answer to the first denial: %d changes at %d sidecars, %d wrong",
		number(r.P50, 1), number(r.P99, 1), number(r.Max, 1), r.Changes, r.Sidecars, r.Wrong)
}

func megabytes(bytes uint64) string { return number(float64(bytes)/1e6, 0) }

func number(x float64, digits int) string { return fmt.Sprintf("%.*f", digits, x) }

func orDash(x *float64, digits int) string {
	if x == nil {
		return "-"
	}
	return number(*x, digits)
}
