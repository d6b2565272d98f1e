package registration_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/registration"
	"github.com/usher-authz/usher/policies"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	status, body := http.StatusCreated, `{"id": "u-1", "more": true}`
	var asked, auth string
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		asked, auth = string(data), r.Header.Get("Authorization")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(platform.Close)
	hook, err := registration.New(platform.URL, "secret")
	require.NoError(t, err)

	id, err := hook.Register(t.Context(), "mia@example.com", "Mia")
	require.NoError(t, err)
	require.Equal(t, policies.AccountID("u-1"), id)
	require.JSONEq(t, `{"email": "mia@example.com", "display_name": "Mia"}`, asked)
	require.Equal(t, "Bearer secret", auth)

	for _, wrong := range []struct {
		status int
		body   string
	}{
		{500, ""}, {404, `{"id": "u-1"}`}, {302, `{"id": "u-1"}`}, {200, ""}, {200, `"u-1"`}, {200, `{}`}, {200, `{"id": ""}`},
		{200, `{"id": "../x"}`}, {200, `{"id": 7}`}, {200, `{"id": "` + strings.Repeat("a", 1<<20) + `"}`},
	} {
		status, body = wrong.status, wrong.body
		_, err := hook.Register(t.Context(), "mia@example.com", "Mia")
		require.Error(t, err, "%d %.40s", wrong.status, wrong.body)
		require.NotContains(t, err.Error(), "secret")
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = hook.Register(ended, "mia@example.com", "Mia")
	require.ErrorIs(t, err, context.Canceled)
}

func TestURL(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"", "hook.example.com", "/register", "ftp://hook.example.com", "https://", "http://[::1"} {
		_, err := registration.New(wrong, "")
		require.Error(t, err, wrong)
	}
}
