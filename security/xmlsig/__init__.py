"""XML signatures (XML-DSig 1.1) over elements of one document: made, and verified without trusting what they say.

Invariants of verification (T20, T21):

* the key is one of the certificates the caller gives, never what KeyInfo brings; it is valid at the caller's time;
* algorithms, canonicalisations and transforms come from short lists; SHA-1 only where the caller accepts it;
* one place: the signature stands where the caller looks, signs the element the caller holds, and nothing else in
  the document has that element's id;
* a comment or processing instruction anywhere in what is signed is refused, because readers disagree about it;
* what was signed is returned, read again from the very bytes that were digested: nothing else may be believed.

lxml canonicalises, ``cryptography`` computes. No XML signature library beside them: the one of PyPI resolves
references inside the whole document and dereferences neither the ids of XAdES 1.1.1 (which begin with a digit) nor
its Type attributes by string, so its result would have to be checked by all of this anyway.
"""
