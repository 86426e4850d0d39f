// The LSTM scans in fp16; a file a format keeps compilation short.
#include "lstm_scan/scan_launch_cuda.h"

namespace genfast::scan {

template void forward_on<Simt<__half>>(const LstmScan&, ScanPlan, cudaStream_t);
template void backward_on<Simt<__half>>(const LstmScan&, bool, ScanPlan, cudaStream_t);
template void forward_on<Mma<conv::Fp16Path>>(const LstmScan&, ScanPlan, cudaStream_t);
template void backward_on<Mma<conv::Fp16Path>>(const LstmScan&, bool, ScanPlan, cudaStream_t);

}  // namespace genfast::scan
