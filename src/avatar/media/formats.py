"""Which audio files are taken: what libsndfile reads, and those of FFmpeg's demuxers and decoders that may run.

A file is told by its content, never by its name. Not taken are demuxers that open other files or the network
(playlists, `concat`, image sequences, SDP), raw samples that nothing tells from noise, text and pictures, what is
encrypted, and the files of single games that FFmpeg knows. Knows no parser.
"""

HEAD_BYTES = 12
"""As much of a file as `is_for_sndfile` looks at."""

NOT_TAKEN = (
    "This is none of the audio files taken here, or it is damaged. Export the recording as WAV, FLAC, MP3, M4A, Ogg or "
    "WebM."
)

_SNDFILE_HEADS = (b"OggS", b"fLaC", b"ID3", b"caff", b".snd", b"riff\x2e\x91\xcf\x11")
_SNDFILE_IFF = {(b"RIFF", b"WAVE"), (b"RF64", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC")}

_PCM = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
SNDFILE_SUBTYPES = {
    **dict.fromkeys(("WAV", "WAVEX", "W64", "RF64", "AIFF", "AU"), _PCM),
    "CAF": _PCM | {"ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"},
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
    "OGG": {"OPUS", "VORBIS"},
    "MP3": {"MPEG_LAYER_III", "MPEG_LAYER_II"},
}
"""What libsndfile decodes, by its own names; FFmpeg is asked for the rest."""

DEMUXERS = frozenset(
    # recorders, phones, browsers, video
    "aac ac3 aiff amr asf au avi caf dts dtshd dv eac3 flac flv gxf loas matroska mov mp3 mpeg mpegts mxf nsv nut ogg "
    "pva rm ivr ty w64 wav wtv xwma "
    # music
    "aea ape bonk mlp mpc mpc8 oma osq qoa rka shn tak truehd tta vqf wavarc wv "
    # telephones, dictation, speech corpora, studios of old
    "act avr dss epaf hcom iff ilbc ircam mmf nistsphere nsp pvf qcp sds sox spdif s337m voc wve "
    # and what FFmpeg itself writes
    "adx alp apm argo_asf ast kvag roq smjpeg swf".split()
)
"""Of FFmpeg; one of a name of several is enough."""

DECODERS = frozenset(
    "8svx_exp 8svx_fib aac aac_latm ac3 alac als amrnb amrwb ape atrac1 atrac3 atrac3al atrac3plus atrac3plusal bonk "
    "cook dca dfpwm dss_sp dvaudio eac3 evrc flac g722 g723_1 g726 g726le g729 gsm gsm_ms hcom iac ilbc imc mace3 "
    "mace6 metasound mlp mp1 mp1float mp2 mp2float mp3 mp3adufloat mp3float mp3on4float mpc7 mpc8 msnsiren nellymoser "
    "opus osq qcelp qdm2 qdmc qoa ralf real_144 real_288 rka roq_dpcm s302m sbc shorten sipr siren speex tak truehd "
    "truespeech tta twinvq vorbis wavarc wavpack wmalossless wmapro wmav1 wmav2 wmavoice "
    "adpcm_adx adpcm_argo adpcm_ct adpcm_ima_alp adpcm_ima_apm adpcm_ima_dk3 adpcm_ima_dk4 adpcm_ima_oki adpcm_ima_qt "
    "adpcm_ima_smjpeg adpcm_ima_ssi adpcm_ima_wav adpcm_ima_ws adpcm_ms adpcm_sanyo adpcm_sbpro_2 adpcm_sbpro_3 "
    "adpcm_sbpro_4 adpcm_swf adpcm_yamaha "
    "pcm_alaw pcm_bluray pcm_dvd pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_mulaw pcm_s16be pcm_s16be_planar "
    "pcm_s16le pcm_s16le_planar pcm_s24be pcm_s24daud pcm_s24le pcm_s24le_planar pcm_s32be pcm_s32le pcm_s32le_planar "
    "pcm_s8 pcm_s8_planar pcm_u16be pcm_u16le pcm_u24be pcm_u24le pcm_u32be pcm_u32le pcm_u8".split()
)
"""Of FFmpeg: no picture, no subtitle, nothing that makes sound out of a text."""


def is_for_sndfile(head: bytes) -> bool:
    """Whether libsndfile is asked first about a file that begins with `head`: it has fewer holes than FFmpeg."""
    is_mpeg = head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0
    return (
        head.startswith(_SNDFILE_HEADS)
        or (head[:4], head[8:12]) in _SNDFILE_IFF
        or (is_mpeg and head[1] & 0x06 != 0)  # MPEG audio of layer 0 is AAC
    )
