package store_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// ndjson writes standard documents as an import sends them.
func ndjson(b *testing.B, owners int) io.Reader {
	b.Helper()
	r, w := io.Pipe()
	encoded := make([][]byte, 0, owners)
	for i := range owners {
		data, err := policies.MarshalDocument(standardDocument(i, owners))
		require.NoError(b, err)
		encoded = append(encoded, append(data, '\n'))
	}
	go func() {
		for _, data := range encoded {
			if _, err := w.Write(data); err != nil {
				return
			}
		}
		_ = w.Close()
	}()
	return r
}

// BenchmarkImport measures the import of the standard platform, from its bytes to
// the last COMMIT: the target is 20,000 grants a second, and that other writers, of whom
// one makes twenty changes a second, wait no longer than a second meanwhile.
func BenchmarkImport(b *testing.B) {
	const owners = 1000
	for b.Loop() {
		url := storetest.URL(b)
		s := storetest.New(b, store.Options{URL: url})
		documents := policies.ReadDocuments(ndjson(b, owners), policies.MediaTypeNDJSON)
		stop := writeMeanwhile(b, s)
		start, own, server := time.Now(), ownCPU(b), serverCPU(b, url)
		report, err := s.Import(b.Context(), call(), documents, nil)
		took := time.Since(start)
		others := stop()
		require.NoError(b, err)
		require.Empty(b, report.Errors)
		require.Equal(b, owners*50, report.Grants)
		b.ReportMetric(float64(report.Grants)/took.Seconds(), "grants/s")
		b.ReportMetric((ownCPU(b) - own).Seconds(), "client-cpu-s")
		b.ReportMetric((serverCPU(b, url) - server).Seconds(), "server-cpu-s")
		b.ReportMetric(others[len(others)*99/100].Seconds()*1000, "others-p99-ms")
	}
}

// writeMeanwhile is another writer, until stop gives how long its changes took, sorted.
func writeMeanwhile(b *testing.B, s *store.Store) (stop func() []time.Duration) {
	b.Helper()
	ended, took := make(chan struct{}), make(chan []time.Duration)
	go func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		var all []time.Duration
		for i := 0; ; i++ {
			start := time.Now()
			name := fmt.Sprintf("Name %d", i)
			if _, err := s.PutAccount(b.Context(), call(), policies.Account{ID: "other", Email: "other@example.com", DisplayName: name}); err != nil {
				b.Error(err)
			}
			all = append(all, time.Since(start))
			select {
			case <-ended:
				slices.Sort(all)
				took <- all
				return
			case <-ticker.C:
			}
		}
	}()
	return func() []time.Duration {
		close(ended)
		return <-took
	}
}
