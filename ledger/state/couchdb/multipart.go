package couchdb

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
)

// document decodes the answer to a GET of one document, which is JSON or, with
// an attachment, JSON and attachments in parts (LEDGER §5.10).
func (a *answer) document() (*document, error) {
	text, parts, err := a.split()
	if err != nil {
		return nil, err
	}
	doc, err := decodeDocument(text, parts)
	if err != nil {
		return nil, err
	}
	if doc.stub {
		return nil, errors.New("the attachment did not come with the document")
	}
	return doc, nil
}

// split returns the document's text and the attachments by name.
func (a *answer) split() ([]byte, map[string][]byte, error) {
	media, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || media != "multipart/related" && media != "multipart/mixed" {
		return a.body, nil, nil
	}
	var text []byte
	parts := map[string][]byte{}
	mr := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	for i := 0; ; i++ {
		part, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("malformed answer in parts: %w", err)
		}
		content, err := readPart(part)
		if err != nil {
			return nil, nil, fmt.Errorf("malformed answer in parts: %w", err)
		}
		if i == 0 {
			text = content
			continue
		}
		name := part.FileName()
		if name == "" {
			name = attachmentName // older servers do not name the only one
		}
		parts[name] = content
	}
	if text == nil {
		return nil, nil, errors.New("malformed answer in parts: there are none")
	}
	return text, parts, nil
}

func readPart(part *multipart.Part) ([]byte, error) {
	if part.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(part) // no more than the answer
	}
	zip, err := gzip.NewReader(part)
	if err != nil {
		return nil, err
	}
	return readBounded(zip, maxAnswer)
}
