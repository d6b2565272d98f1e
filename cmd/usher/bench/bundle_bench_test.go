package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/bundles"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// BenchmarkBundle is the bundle of 1,000,000 grants, built and signed by an admin
// server's handler, beside the same data as JSON, written to nowhere: how long it takes,
// what it adds to the heap at most (garbage included) for each byte of its JSON, and the
// p99 of cached checks by one goroutine of the same process meanwhile, beside that of the
// same checks before.
func BenchmarkBundle(b *testing.B) {
	engine, questions := generatedEngine(b, 20_000)
	floor := time.Hour
	for range 3 {
		floor = min(floor, marshalled(b, engine.State()))
	}
	var first, quiet, busy latencies
	first.checks(b, engine, questions, time.After(time.Second)) // not cached yet
	quiet.checks(b, engine, questions, time.After(2*time.Second))
	runtime.GC()
	before := heapBytes()

	least, peak, body := time.Hour, uint64(0), []byte(nil)
	for b.Loop() {
		bundle, took := bundleOf(b, engine, func(done <-chan time.Time) {
			var work sync.WaitGroup
			work.Go(func() { busy.checks(b, engine, questions, done) })
			peak = max(peak, peakHeap(done))
			work.Wait()
		})
		body, least = bundle, min(least, took)
	}
	b.ReportMetric(least.Seconds(), "s")
	b.ReportMetric(float64(least)/float64(floor), "×floor")
	b.ReportMetric(float64(peak-min(peak, before))/float64(dataBytes(b, body)), "×JSON")
	b.ReportMetric(float64(quiet.quantile(0.99)), "p99-ns")
	b.ReportMetric(float64(busy.quantile(0.99))/float64(quiet.quantile(0.99)), "×p99")
}

// generatedEngine has a platform, and nothing else that an admin server has not.
func generatedEngine(b *testing.B, owners int) (*authz.Engine, []question) {
	b.Helper()
	p, state := generated(b, owners)
	engine, err := authz.New(authz.Options{})
	require.NoError(b, err)
	require.NoError(b, engine.Reset(state))
	return engine, p.questions(hotQuestions)
}

// bundleOf asks a new handler for its bundle, while meanwhile runs until it is told that
// this is done.
func bundleOf(b *testing.B, engine *authz.Engine, meanwhile func(done <-chan time.Time)) ([]byte, time.Duration) {
	b.Helper()
	key, err := signing.Generate()
	require.NoError(b, err)
	handler, err := bundles.New(bundles.Options{
		Source: bundles.EngineSource(engine, func(context.Context) (policies.Revision, error) { return engine.State().Revision(), nil }),
		Key:    key,
		Fail:   func(_ http.ResponseWriter, _ *http.Request, err error) { b.Error(err) },
	})
	require.NoError(b, err)
	done, answer := make(chan time.Time), httptest.NewRecorder()
	var work sync.WaitGroup
	work.Go(func() { meanwhile(done) })
	began := time.Now()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v1/bundles/usher.tar.gz", http.NoBody))
	took := time.Since(began)
	close(done)
	work.Wait()
	require.Equal(b, http.StatusOK, answer.Code)
	return answer.Body.Bytes(), took
}

// marshalled is how long the floor takes.
func marshalled(b *testing.B, state *authz.State) time.Duration {
	b.Helper()
	began := time.Now()
	for _, data := range state.PlatformData().Accounts() {
		require.NoError(b, json.MarshalWrite(io.Discard, data, json.Deterministic(true)))
	}
	return time.Since(began)
}

// dataBytes is the size of the data in a bundle.
func dataBytes(b *testing.B, bundle []byte) int64 {
	b.Helper()
	z, err := gzip.NewReader(bytes.NewReader(bundle))
	require.NoError(b, err)
	for files := tar.NewReader(z); ; {
		file, err := files.Next()
		require.NoError(b, err)
		if file.Name == "/data.json" {
			return file.Size
		}
	}
}

// peakHeap is the most that the heap has, garbage included, until done is closed.
func peakHeap(done <-chan time.Time) (peak uint64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		peak = max(peak, heapBytes())
		select {
		case <-done:
			return peak
		case <-tick.C:
		}
	}
}

// heapBytes is what the heap has now, garbage included.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// latencies counts by tens of nanoseconds; the last are all that took longer.
type latencies [10_000]int

const latencyStep = 10 * time.Nanosecond

// checks asks one question after the other until it is told to end.
func (l *latencies) checks(b *testing.B, engine *authz.Engine, questions []question, end <-chan time.Time) {
	b.Helper()
	for at := 0; ; at++ {
		q := &questions[at%len(questions)]
		began := time.Now()
		d, err := engine.Check(context.Background(), 0, authz.Question{
			SubjectType: q.SubjectType, Subject: q.Subject, Action: q.Action, ResourceType: q.ResourceType, ResourceID: q.ResourceID,
		})
		took := time.Since(began)
		if err != nil || d.Allow != q.want.Decision {
			b.Errorf("%v: %v, %v", q, d, err)
			return
		}
		l[min(int(took/latencyStep), len(l)-1)]++
		select {
		case <-end:
			return
		default:
		}
	}
}

// quantile is rounded up to a step.
func (l *latencies) quantile(q float64) time.Duration {
	all, seen := 0, 0
	for _, n := range l {
		all += n
	}
	for i, n := range l {
		if seen += n; float64(seen) >= q*float64(all) {
			return time.Duration(i+1) * latencyStep
		}
	}
	return 0
}
