package policies

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"

	"github.com/usher-authz/usher/policies/signing"
)

// BundleContents is what a bundle holds: a whole platform at one revision,
// without what decisions do not need. It is immutable and implements
// [PlatformData].
type BundleContents struct {
	revision Revision
	platform string
	policy   PolicyInForce
	subjects []AccountID
	owners   []AccountID // of accounts, sorted
	accounts map[AccountID]jsontext.Value
}

var _ PlatformData = (*BundleContents)(nil)

// Revision is the revision of the data.
func (b *BundleContents) Revision() Revision { return b.revision }

// PlatformID names the platform.
func (b *BundleContents) PlatformID() string { return b.platform }

// Policy is the policy in force.
func (b *BundleContents) Policy() *PolicyInForce { return &b.policy }

// Subjects are all accounts, sorted.
func (b *BundleContents) Subjects() iter.Seq[AccountID] { return slices.Values(b.subjects) }

// Accounts are the accounts with what they share, sorted by id. Each is decoded
// when it comes, so that the whole is never held as more than its JSON.
func (b *BundleContents) Accounts() iter.Seq2[AccountID, *AccountData] {
	return func(yield func(AccountID, *AccountData) bool) {
		for _, owner := range b.owners {
			data := new(AccountData)
			// It was decoded once by ReadBundle, so that it cannot fail now.
			if json.Unmarshal(b.accounts[owner], data) != nil || !yield(owner, data) {
				return
			}
		}
	}
}

// Objects is the platform as objects, as snapshots carry it: the policy in
// force, then each account with what is its own (see [AccountData.Objects]).
func (b *BundleContents) Objects() iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		policy, err := NewObject(KindPolicyInForce, "", string(KindPolicyInForce), b.policy)
		if !yield(policy, err) || err != nil {
			return
		}
		for _, id := range b.subjects {
			data := new(AccountData)
			if raw, ok := b.accounts[id]; ok {
				err = json.Unmarshal(raw, data)
			}
			objects, e := data.Objects(id)
			if err = firstError(err, e); err != nil {
				yield(Object{}, fmt.Errorf("account %q of the bundle: %w", id, err))
				return
			}
			for _, o := range objects {
				if !yield(o, nil) {
					return
				}
			}
		}
	}
}

// ReadBundle reads a bundle that [WriteBundle] wrote and checks that it is
// consistent: the digest of the policy, every id, every reference, and that
// data.usher.owners says the same as data.usher.accounts. It returns a
// [*MalformedError], whose Where is the file or the JSON pointer in data.json, a
// [*TooLargeError] beyond [MaxBundleBytes] or [MaxBundleFileBytes], or what r
// failed with. It verifies no signature. It holds at most the JSON of the data.
func ReadBundle(r io.Reader) (*BundleContents, error) { return ReadSignedBundle(r, nil) }

// ReadSignedBundle reads a bundle as [ReadBundle] does, and verifies that every file of
// it is what a key of the verifier signed; else the error is a [*SignatureError]. A nil
// verifier verifies nothing.
func ReadSignedBundle(r io.Reader, by *signing.Verifier) (*BundleContents, error) {
	limited := &boundedReader{r: r, left: MaxBundleBytes, what: "the bundle"}
	zr, err := gzip.NewReader(bufio.NewReader(limited))
	if err != nil {
		return nil, bundleError("", err)
	}
	tr := tar.NewReader(zr)
	b := bundleReader{modules: make(map[string]string), seen: make(map[string]bool), sums: fileSums{}}
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, bundleError("", err)
		}
		name := path.Join("/", header.Name) //nolint:gosec // a name to compare with: nothing is written
		if header.Typeflag == tar.TypeDir {
			continue
		}
		if err := b.file(name, header, tr); err != nil {
			return nil, bundleError(name, err)
		}
	}
	// The sum of the last gzip member stands after the end of the tar.
	if _, err := io.Copy(io.Discard, &boundedReader{r: zr, left: maxBundleTextBytes, what: "what follows the bundle"}); err != nil {
		return nil, bundleError("", err)
	}
	if by != nil {
		if err := b.sums.verify(b.signatures, by); err != nil {
			return nil, err
		}
	}
	return b.contents()
}

// maxBundleTextBytes bounds every file of a bundle but the data.
const maxBundleTextBytes = 16 << 20

// boundedReader fails with a TooLargeError when more than left bytes come.
type boundedReader struct {
	r    io.Reader
	left int64
	what string
	all  int64
}

// Read is io.Reader's.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.left -= int64(n)
	b.all += int64(n)
	if b.left < 0 {
		return 0, &TooLargeError{What: b.what, Limit: b.all + b.left}
	}
	return n, err
}

// bundleError puts faults of the archive's form into our words.
func bundleError(where string, err error) error {
	if _, ok := errors.AsType[*TooLargeError](err); ok {
		return err
	}
	if m, ok := errors.AsType[*MalformedError](err); ok {
		return m
	}
	if reason := archiveFault(err); reason != "" {
		return &MalformedError{Where: where, Reason: reason}
	}
	return fmt.Errorf("read the bundle: %w", err)
}

func archiveFault(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "is cut off"
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.Is(err, tar.ErrHeader), isDeflateFault(err):
		return "is not a gzip-compressed tar: " + Shorten(err.Error())
	}
	return ""
}

type bundleReader struct {
	sums       fileSums // of all files but the signatures
	signatures []byte
	seen       map[string]bool
	manifest   manifest
	catalogue  Catalogue
	modules    map[string]string
	data       platformDecoder
}

func (b *bundleReader) file(name string, header *tar.Header, r io.Reader) error {
	if b.seen[name] {
		return &MalformedError{Where: name, Reason: "stands twice"}
	}
	b.seen[name] = true
	if len(b.seen) > MaxBundleFiles {
		return &MalformedError{Where: name, Reason: fmt.Sprintf("is more than %d files", MaxBundleFiles)}
	}
	if header.Typeflag != tar.TypeReg {
		return &MalformedError{Where: name, Reason: "is not a regular file"}
	}
	if name != bundleSignatures {
		r = io.TeeReader(r, b.sums.of(name))
	}
	if name == bundleData {
		if header.Size > MaxBundleFileBytes {
			return &TooLargeError{What: name, Limit: MaxBundleFileBytes}
		}
		return b.data.decode(r)
	}
	if header.Size > maxBundleTextBytes {
		return &TooLargeError{What: name, Limit: maxBundleTextBytes}
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	switch {
	case name == bundleManifest:
		return at(name, DecodeStrict(content, &b.manifest))
	case name == bundleCatalogue:
		return at(name, DecodeStrict(content, &b.catalogue))
	case strings.HasSuffix(name, ".rego"):
		b.modules[strings.TrimPrefix(name, "/")] = string(content)
	case name == bundleSignatures:
		b.signatures = content
	default:
		return &MalformedError{Where: name, Reason: "does not belong in a bundle of usher"}
	}
	return nil
}

// at says in which file a fault is.
func at(file string, err error) error {
	if m, ok := errors.AsType[*MalformedError](err); ok {
		return &MalformedError{Where: file + m.Where, Reason: m.Reason}
	}
	return err
}

func (b *bundleReader) contents() (*BundleContents, error) {
	for _, name := range []string{bundleManifest, bundleCatalogue, bundleData} {
		if !b.seen[name] {
			return nil, &MalformedError{Where: name, Reason: "is missing"}
		}
	}
	policy, err := NewPolicyInForce(b.catalogue, b.modules)
	if err != nil {
		return nil, &MalformedError{Where: bundleCatalogue, Reason: err.Error()}
	}
	if policy.Digest != b.manifest.Metadata.PolicyDigest {
		return nil, &MalformedError{Where: bundleManifest, Reason: "names another policy digest than that of the catalogue and the Rego"}
	}
	if b.manifest.Revision != b.data.revision.String() {
		return nil, &MalformedError{Where: bundleManifest, Reason: "names another revision than the data"}
	}
	if !slices.Equal(b.manifest.Roots, []string{bundleRoot}) || b.manifest.RegoVersion != 1 {
		return nil, &MalformedError{Where: bundleManifest, Reason: "has other roots, or another version of Rego, than usher's bundles"}
	}
	if err := b.data.check(policy.Catalogue); err != nil {
		return nil, err
	}
	contents := &BundleContents{
		revision: b.data.revision,
		platform: b.manifest.Metadata.Platform,
		policy:   policy,
		accounts: b.data.accounts,
	}
	contents.subjects = sortedKeys(b.data.subjects)
	contents.owners = sortedKeys(b.data.accounts)
	return contents, nil
}

// canonicalEqual tells whether value is v in JSON.
func canonicalEqual(value jsontext.Value, v any) bool {
	want, err := CanonicalJSON(v)
	got := slices.Clone(value)
	return err == nil && got.Canonicalize() == nil && bytes.Equal(want, got)
}
