use proptest::prelude::*;

use super::*;

/// Streams that are whole, one for each way a dialect is read.
fn streams() -> Vec<(Adapter, &'static str)> {
    vec![
        (Adapter::OpenAi, super::openai::TEXT),
        (Adapter::OpenAi, super::openai::CALLS),
        (Adapter::Ollama, super::ollama::STREAM),
        (Adapter::Anthropic, super::anthropic::STREAM),
    ]
}

/// The stream cut at these places.
fn parts<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_pieces(which in 0_usize..64, cuts in prop::collection::vec(0_usize..10_000, 0..40)) {
        let all = streams();
        let (adapter, stream) = all[which % all.len()];
        let bytes = stream.as_bytes();
        let whole = decoded(adapter, &plain(), &[bytes]);
        prop_assert_eq!(&whole.1, &Ok(()));
        prop_assert_eq!(decoded(adapter, &plain(), &parts(bytes, &cuts)), whole);
    }

    #[test]
    fn a_stream_with_wrong_bytes_ends_the_same_however_it_is_split(
        which in 0_usize..64,
        changes in prop::collection::vec((0_usize..10_000, any::<u8>()), 1..6),
        keep in 0_usize..10_000,
        cuts in prop::collection::vec(0_usize..10_000, 0..10),
    ) {
        let all = streams();
        let (adapter, stream) = all[which % all.len()];
        let mut bytes = stream.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(keep);
        let whole = decoded(adapter, &plain(), &[&bytes]);
        prop_assert_eq!(decoded(adapter, &plain(), &parts(&bytes, &cuts)), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), status in any::<u16>(), text in ".{0,40}") {
        for adapter in Adapter::ALL {
            let _ = decoded(*adapter, &plain(), &[&bytes]);
            let _ = adapter.answer(&plain(), &bytes);
            let _ = adapter.embeddings(&[], &bytes);
            let _ = adapter.refusal(status, |_| Some(text.as_str()), UnixMs(0), &bytes);
        }
    }

    #[test]
    fn a_cut_stream_is_never_taken_for_a_whole_one(which in 0_usize..64, keep in 0_usize..10_000) {
        let all = streams();
        let (adapter, stream) = all[which % all.len()];
        let keep = keep % stream.len();
        let (pieces, end) = decoded(adapter, &plain(), &[&stream.as_bytes()[..keep]]);
        let is_finished = pieces.iter().any(|piece| matches!(piece, Piece::Finish(_)));
        prop_assert_eq!(end.is_ok(), is_finished);
    }
}
