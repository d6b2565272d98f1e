package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/usher-authz/usher/authz/client"
	"github.com/usher-authz/usher/policies"
)

// A service asks before it starts an environment, and hands the revision of a write
// on to the check that must see it.
func Example() {
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Usher-Min-Revision") == "1234" {
			_, _ = fmt.Fprint(w, `{"decision":true,"context":{"reason":"granted","revision":1240}}`)
		}
	}))
	defer sidecar.Close()

	c, err := client.New(client.Options{URL: sidecar.URL, Token: "ush_…"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := client.AtLeast(context.Background(), 1234)
	d, err := c.Check(ctx, client.Question{
		Account: "mia", Action: "environment.control.StartEnv",
		Resource: policies.Resource{Type: policies.TypeEnvironment, ID: "my-app"},
	})
	fmt.Println(d.Allow, d.Reason, d.Revision, err)
	// Output: true granted 1240 <nil>
}
