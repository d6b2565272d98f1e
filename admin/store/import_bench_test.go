package store_test

import (
	"io"
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
// the last COMMIT: the target is 20,000 grants a second.
func BenchmarkImport(b *testing.B) {
	const owners = 1000
	for b.Loop() {
		url := storetest.URL(b)
		s := storetest.New(b, store.Options{URL: url})
		documents := policies.ReadDocuments(ndjson(b, owners), policies.MediaTypeNDJSON)
		start, own, server := time.Now(), ownCPU(b), serverCPU(b, url)
		report, err := s.Import(b.Context(), call(), documents, nil)
		require.NoError(b, err)
		require.Empty(b, report.Errors)
		require.Equal(b, owners*50, report.Grants)
		b.ReportMetric(float64(report.Grants)/time.Since(start).Seconds(), "grants/s")
		b.ReportMetric((ownCPU(b) - own).Seconds(), "client-cpu-s")
		b.ReportMetric((serverCPU(b, url) - server).Seconds(), "server-cpu-s")
	}
}
