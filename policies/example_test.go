package policies_test

import (
	"fmt"
	"strings"

	"github.com/usher-authz/usher/policies"
)

func ExampleReadDocuments() {
	body := strings.NewReader(`{"account": {"id": "acme", "email": "ops@acme.example"}}
{"account": {"id": "globex", "email": "nobody"}, "environments": [{"id": "e 1", "name": "One"}]}
{"account": {"id": "initech", "email": "it@initech.example"}, "groops": []}
{"account": {"id": "umbrella", "email": "it@umbrella.example"}}
`)
	for d := range policies.ReadDocuments(body, policies.MediaTypeNDJSON) {
		if d.Err != nil {
			fmt.Printf("line %d: %s: %s\n", d.Line, d.Account, d.Err)
			continue
		}
		fmt.Printf("line %d: %s is good\n", d.Line, d.Document.Account.ID)
	}
	// Output:
	// line 1: acme is good
	// line 2: globex: account.email must be an email address, such as mia@example.com; environments[0].id must be 1 to 128 of A-Z a-z 0-9 . _ : @ - and begin with a letter or a digit
	// line 3: initech: /groops: is not a known field
	// line 4: umbrella is good
}

func ExampleNameKey() {
	fmt.Println(policies.NameKey("STRASSE") == policies.NameKey("Straße"))
	// Output: true
}
