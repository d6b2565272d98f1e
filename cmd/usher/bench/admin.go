package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// admin calls the admin server.
type admin struct {
	url, token string
	http       *http.Client
}

const maxAnswer = 64 << 20

// call makes a request; any status but 2xx is an error. It gives the revision of a
// write.
func (a *admin) call(ctx context.Context, method, path, contentType string, body []byte, out any) (policies.Revision, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("call the admin server: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		r.Header.Set("Content-Type", contentType)
	}
	response, err := a.http.Do(r)
	if err != nil {
		return 0, fmt.Errorf("call the admin server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxOutput)) // as much of the reason as there is
		return 0, fmt.Errorf("%s %s answered %s: %s", method, path, response.Status, text)
	}
	if w, ok := out.(io.Writer); ok {
		_, err = io.Copy(w, response.Body)
	} else if out != nil {
		err = json.UnmarshalRead(io.LimitReader(response.Body, maxAnswer), out)
	}
	if err != nil {
		return 0, fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	revision, _ := strconv.ParseUint(response.Header.Get("Usher-Revision"), 10, 64) // reads have none
	return policies.Revision(revision), nil
}

// Import is what importing the platform took.
type Import struct {
	Documents    int     `json:"documents"`
	Grants       int     `json:"grants"`
	Seconds      float64 `json:"seconds"`
	GrantsPerSec float64 `json:"grants_per_second"`
	// Changed is false if all of it was there already, of an earlier run.
	Changed bool `json:"changed"`
}

// importAll imports the documents, and gives the revision at which all are there.
func (a *admin) importAll(ctx context.Context, documents []policies.Document) (Import, policies.Revision, error) {
	var lines bytes.Buffer
	for i := range documents {
		if err := json.MarshalWrite(&lines, documents[i], jsontext.Multiline(false)); err != nil {
			return Import{}, 0, fmt.Errorf("encode a document: %w", err)
		}
		lines.WriteByte('\n')
	}
	before, err := a.call(ctx, http.MethodPost, "/v1/import", "application/x-ndjson", firstLine(lines.Bytes()), nil)
	if err != nil {
		return Import{}, 0, err
	}
	var answer struct {
		Imported []policies.AccountID `json:"imported"`
		Errors   jsontext.Value       `json:"errors"`
	}
	began := time.Now()
	revision, err := a.call(ctx, http.MethodPost, "/v1/import", "application/x-ndjson", lines.Bytes(), &answer)
	took := time.Since(began).Seconds()
	if err != nil {
		return Import{}, 0, err
	}
	if len(answer.Imported) != len(documents) {
		return Import{}, 0, fmt.Errorf("%d of %d documents were refused: %.*s", len(documents)-len(answer.Imported), len(documents), maxOutput, answer.Errors)
	}
	grants := len(documents) * grantsEach
	return Import{len(documents), grants, took, float64(grants) / took, revision > before}, revision, nil
}

func firstLine(lines []byte) []byte {
	line, _, _ := bytes.Cut(lines, []byte{'\n'})
	return line
}

// memberID is the collaboration of owner with the account.
func (a *admin) memberID(ctx context.Context, owner, account policies.AccountID) (policies.CollaborationID, error) {
	var list struct {
		Items []struct {
			ID      policies.CollaborationID `json:"id"`
			Account policies.AccountID       `json:"account"`
		} `json:"items"`
	}
	path := fmt.Sprintf("/v1/accounts/%s/members?search=%s", owner, url.QueryEscape(email(account)))
	if _, err := a.call(ctx, http.MethodGet, path, "", nil, &list); err != nil {
		return "", err
	}
	for _, item := range list.Items {
		if item.Account == account {
			return item.ID, nil
		}
	}
	return "", fmt.Errorf("%s is no member of %s", account, owner)
}
